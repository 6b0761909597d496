"""What would become of a request, before anybody asks: dry runs, supposed requests, an operator's table of cases."""
