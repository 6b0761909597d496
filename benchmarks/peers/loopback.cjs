// Preloaded into a server that listens on every address and has no option for it: benchmarks stay on loopback.
const { Server } = require("node:net");
const { listen } = Server.prototype;
Server.prototype.listen = function (port, ...rest) {
  const done = rest.filter((one) => typeof one === "function");
  return listen.call(this, { port, host: "127.0.0.1" }, ...done);
};
