"""Initial filter criteria (TS 29.228 Annexes B, E and F; TS 23.218 clause 5.2).

XML becomes an immutable tree once (`ifc.parser`), its patterns are compiled once (`ifc.ere`), and `ifc.engine.evaluate`
is a pure function of criteria and a `ifc.view.RequestView`.  The package knows no SIP stack and no Diameter.
"""
