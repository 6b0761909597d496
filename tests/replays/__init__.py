"""The proof of ``flatfee policy replay``: a generated month of traffic, served by the gateway itself and replayed."""
