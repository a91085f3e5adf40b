"""An image of 16x16 pixels and one color in each format that the kernel decodes."""

from __future__ import annotations

import base64

SAMPLES = {
    name: base64.b85decode(text)
    for name, text in {
        "JPEG": "|JeWF01!$>Nk#wx0RR9200961|JwjV03a3^92gWJ92y)XA|NI(P&6<sEHGk5N;*(<W_oyXW^itRkhq+H"
        "h^~rmaG=_vuD-<1(9V3C;_~3@gVLs(#{b&@LjfWrBrqy4UNkgb#)NQ$#>U3R#>U3R#>U3R#>U3R#>U3R"
        "#>U3R#>U3R#>U3R#>U3R#>U3R#>U3R#>U3R#>W4^01*fP5C9MZ0U`hb5di}c0sq7R6#xMN0000000000"
        "0000000002|HJ?k5CH%H0000000000000000095Q02BcM00000000000000000004|HJ?k5di=I00000"
        "00000000000095m01N{G00I#M5dc2`paU)c*#",
        "PNG": "iBL{Q4GJ0x0000DNk~Le0000G0000G2m$~A0FaSrHUIzs8A(JzRCt_YJW-*+Knh?YN%g3PQ4K>%0|0=W"
        "0f;$rE&Tuh002ovPDHLkV1f",
        "WebP": "Qb|Te9smFUS4BclR!}%h5dZ)HFAu;200&UKA{V9qfr#jT000",
    }.items()
}
"""The encoded images, by the names of their formats."""

SHAPE = (16, 16, 3)
COLOR = (200, 120, 40)
NEAR = 8
"""The largest difference of a level from COLOR that the lossy formats make."""
