"""The application server's end of ISC: TS 24.229 clause 5.7, TS 23.218.  Sans-IO.

Everything here believes headers that only the S-CSCF may set, so callers ask only about requests of trusted peers.
"""
