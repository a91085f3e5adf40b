"""WebPs of 23 x 17 pixels, one of every kind, for machines whose Pillow cannot write them."""

from base64 import b64decode

SMALL_WEBPS: dict[str, bytes] = {
    name: b64decode(text)
    for name, text in {
        "lossy": (
            "UklGRvgAAABXRUJQVlA4IOwAAADQBgCdASoXABEAPi0Qh0KhoQ3+qgAMAWJaACdMuN5n5nw9O7piDCr8ABNVQW"
            "/6p8fXM0fmPBSUSa87jM4s4QAA/v+rkCXIjijCcGEErPrXgzm3ov8bvaO3xnVCOjkMWnTizbmmlZiROdPG0pm6"
            "+CYNBJrT28+q9oXKhHPGbq4dWkdpG2pV+/kaPI/4QFXjHdK4FT2enZqOUi8ml9y0R1hQvA8mngNb9ogKu6x7Hy"
            "AQJCMG2AqQ/lb0KQHVAUqGlWYmg7XTBdwzLT82CLkANT4AjT2b/+MPz2pjHjykOQlIxs1MkVhlwizr4AAAAA=="
        ),
        "lossy_alpha": (
            "UklGRhQCAABXRUJQVlA4WAoAAAAQAAAAFgAAEAAAQUxQSAcBAAAFcBgASNsQm9X/f8x0awScb0RE5B596tydnZ"
            "+W07u5rEZOrfmMHESwOHo0YZYiRtV2dGnEXCwmv0VOkgup5iBrojQruBefg16DRUA5Q+wJv1A/Yt8ynxUDvIOB"
            "qHoz+YJkxbW8qbnaHcHwanZYVa1JL15nAsTgwUKRw2Bn+4H9HSPLXeUELgk537MUYRwTOsQo7HQDlyipktl0t1"
            "jagauvyoMVz6wo7G/MQgttE/0s9vbN56om64ir4lZvGAet3w8+Hz0YgaFGKsbFwvaveApdx5ixcjKCnloMQzk3"
            "5HIv73wOP1PMTw2l8wuAZrs6cVLCF9cVZuz0+Raqm51d5XTvgekJfdDNCQBWUDgg5gAAADAGAJ0BKhcAEQA+LR"
            "CHQqGhDf6qAAwBYloAJ0y43mfmdMvoACaqgt/1T4+uZo/MeCkok153GZxZwgAA/v+rkCXIjijCcGEErPrXgzm3"
            "ov8bvaO3xnVCOjkMWnTizbmmlZiROdPG0pm6+CYNBJrT28+q9oXKhHPGbrlJWLSE6yLuXNw/kaPI/4QFXjHfz5"
            "gHZNcfrnmopleUJWUjpxEgcGgQwY0DqNqShQeLjKCrn0BJQJ58/yuKFJZvJj+W/qozDdecZcmgfggPmwQ+A1VQ"
            "ArLthRD1JaqDL64CWO58h9xjaxdIh6AA"
        ),
        "lossless": (
            "UklGRiYDAABXRUJQVlA4TBoDAAAvFgAEAAkxafLK+kc2RET/g74YAbJJG8fQ/+8tQoKE6P/D9j/gk5gAAMQAQN"
            "s2sqwBkhgSkjL//3G2b8gWADRuG0ASYJBkd9fb/v8Lc8iWBATZVlpJ4EdAFEOnqtn/FnuyIcIxpPC3TvcvhoZf"
            "fjkLUfTzD4KN7/XjXPPTX+d2lzqXs+XfL3Wbgiff7Ff+fv8f+yaRBJ1kjV5OIW6RQ/3TeXVLOnL3e2nKIr57HB"
            "GlZgAJ2txjJLlq31YAqiBOwzth78zkS4K1i74E5nEb5InzkNQ99vTraXXBnalBUkGRUnSWDLnkGwTMRl5WfVC5"
            "oGc1sAYoFOieZ7Mz/nbM8x6BSlrbpJtq2oJE8bchxMRj97bEtFNgJ5YAmeXvI6uQFkCAZLxryFTvIwiXDsq3zH"
            "dbYqJeiCENSH9Dqnt47Jo0cboYNP/qZFKokWh2S7csGBVM+bFnW+x2tAEoUGn7beMh1KKe17k8HM369MP2DGSv"
            "HMBRSy1J00YPv4yilgL+YYc1lnjA8wrLICEb3NQ85Y0HaiVQTIPcVw2TdWlFWXtGtwUwB+1iT70ty91FnKY4Lz"
            "ZXMKEDUSeGXi9PLP3uHE6r8fl78rB+ZKoUqR4tXT5yWfh4JRHJowUsRJ4DkVtNuL5WFU7guBiuCXtbzW0oCVex"
            "SzdRqyADterh32EoYtmhsoypmJsuShhS2xD4cHt2F2pTzJF5qkIcHgBV1Hoc1u8kikXpxU/EnIx8hqKazj62Bu"
            "bTNlXUnH3imMJ4fziHmGP1cssyP97d6RynaVG7wK0fWgxkAvTJ8l86FiX82nqQQcJCipRgA+J1+GOiLDo1n6QB"
            "o8x6XwP0Xb5dEdRMwOF9l3DaSmzeS9sxGZEYA9cUxi/MV9XTB6jqeEjsQuD/9m2LsgP6nxtAQ/vd6AYL+4IkrW"
            "srmjOIYWu3jCIcWUeqfDkrpX3Fymw3dNP/elxMdwyNLnxkUafsggdIebMJ4ncAsy3g/DTEZ7hxWDlMfcReWya8"
            "U3NfS1teXAW/V8om+C9Pm9QyhBqttxXnbVcxSpeja/bDhodnusDODA=="
        ),
        "lossless_alpha": (
            "UklGRh4EAABXRUJQVlA4TBIEAAAvFgAEEAkxafLK+kc2RET/g74YAbJJG8fQ/+8tQoKE6P/D9j/gk5gAAMQAQN"
            "s2sqwBkhgSkjL//3G2b8gWADRuG0ASYJBkd9fb/v8Lc8iWBATZVlpJ4EdAFEOnqtn/FnuyQYIAoG3jgKbt5P+P"
            "vNU61gIEhGOQFG5vnc39i5/QcHz5Zc4CRVH7/IM72Pj/vX6Sc/3KT9fXudldOpzL99ly/f3S223i4OnXN/Nf+e"
            "Pf/8fYN6lIcuhEsob3cqwQe4s8Qv1DndfuloaOTN3vUJoWFnHfXeKIC6XGDPBIkG/uECOZXPWvb3sKwFEFA04T"
            "vJNi74mZ3JcEsHYs+hKBCcdtBnkOnCeRVNtj5+lXfFodC+6TqQkkXYJySymms3CGDCXfIgTIbGReltYHWblU9E"
            "xqUKzBRKEr0N3zbGhnpN+Od573HIGspLW3CXVT17STIAnF37EhQEy8x+65LUmmPVGgd2KRAJNZ7O8jtgqBFlgI"
            "gMk47xpyptrvI3Thwh2U+Rab7/a3xETUdyEGSMMh/fmQGtzDOnZdSVPidCmDYv7VgUywUCMSzdntf7olLxizgr"
            "Hyw/ZsvNi3HS0PQBSoStvhtjEfQtqitvM6+fKwRjPv08Nhe85AZa+BA5yjUqmlJk240Sn8MqeoVgpU/3B1WDGW"
            "qAc8+QoLDFJDNoSbYvO08kY8UGclEMWEgzz4qitMJl0aKspae5bo1heAz0Gwi/1/6k2X5ae7LHGSKQ68mMyVwC"
            "TSgR11Hhg6r5fXxDL73ROHO6128PnbTx5g/YBMZSmyq8dh6Zo+speF/fFKQUSePBoELJHISw4MyK3XhHt9TasC"
            "nMAtLj7gmhP2jlYzt6FGwljF6qXbFLVZQepAtaoH+XcYQ/HBsiFU7jImKubWdFVKKCE13RCYDz/t2dSFRpuyzb"
            "EwT1GFEofvANhVVK3HMazrnWQoFlJ6VX6iYk5i5NcMbah26ewytr4Cs522mSqK5gw+cYgp9PH+mM7BYo6xehm3"
            "LHF+/NXdG53jc5rmouYXuMV+aC0GSSYo9Gks/6N0DEVp4deO9WBhEAgLK0VKCXYBxHIdbo+JJIvWqbmdpBwwis"
            "ya72t00DeVb3dFWGoWBFzgfWcJJ9pKxLa8F2k77mQkJPZhYK8p2PiFT74q6+lhgLLqoIfE1IUi+P8/+7a6KIMD"
            "sv+5I4D20H5fG30brDf2NSEJtq6rFT1zhiKG2NotZxQSjoF1cKoMl7NelHa5Ym3MFm/oYPpv9bga0/3A0BZdAh"
            "9ZRT1SdhA8DKSRN5MJbvyOBsxgCwbn5zREfoazcZCVw5r6kNjrbJkU78TN3dbS1fLKXEXxe42UrQj+kzytTGoj"
            "QzhrtNDbSnHe6q7CRokvR3fNXg4b0cPzThc0O/MA"
        ),
        "animation": (
            "UklGRtwFAABXRUJQVlA4WAoAAAASAAAAFgAAEAAAQU5JTQYAAAAAAAAAAABBTk1G6gEAAAAAAAAAABYAABAAAG"
            "QAAAJBTFBIFwEAAAUfoZBtBOjmz3g4H0JEpEjzw2EAoGkriqY6qSQh0gDRiP5H7tGnLt3hcrWc7t1lPXJqzWeS"
            "oALS6NGG5VEx6naQSyPmgpT8HiU9Ulg3B9kwp0XDufoczBaQgJ4FYk/0hvqy+JblVynAPQSYq7eTL8So/uudmq"
            "vdMQyvF0dV15rM6k1mIAoeEMozLHXBF3D+jvwcOidwST3LuTwqjO9EjigqnE6QEh+ubHfTkUr70uar9oDqWjSH"
            "445ZGWUw8YzU27v8Nj2hY6laWj1hfHl7Z3h99GAVhRq5WBeL4EfLFLqJMVOVZBVftViB8ttJyrney2/4hWO+ai"
            "hdbgCy+7+zJK18cV1Tps6vb6G6xeH2TOcRhK/QB5+SAABWUDggsgAAALAFAJ0BKhcAEQA+ZSiPRaQioRv9VABA"
            "BkS0GcgS1DoSIaQfznhzXAVv6UbvarP/vqhCxH/dgAD+/fA9olxVE/Mhgji2hP5R6IdiFWfQcIPX3b5iGm5ZYp"
            "69T6PGXLt0a+TN0Ox19jv54aqdqrGDKTce7KLhIzR7ub8BYupbtQwtKniStTfqUWcg41NEYltgfRbP0bIfWAHV"
            "Hw/+eOTYh8ckwdgIU9uHn9jYUw3PMNyAAABBTk1G5gEAAAAAAAAAABYAABAAAGQAAAJBTFBIEwEAAAUfoZBtBO"
            "jmz3g4H0JEpEjzw4Fk24wtCTM/R/kFj4eI/seOsy7SZPN8L/PZNEu0uRhMtjSx/x3ty+Jggk6pyxIOo2uQXfOR"
            "qnK4/TbfTNxA3eeDqLIsRGoQusLxE7zUFnQoUlqJRAnOskTkef33vvz8Dtu9bUhG2q+vRZjt8/rVdK8fuQAajb"
            "0HcFFbccBQj6yCf1OXPgdY366vK4bNNUz3EoPzu9aAv/tdng6WH8SG/C5dGXIzWLW4oKlupQC7wlGyTOXx7/HI"
            "G6H3DLM+vjaiuIoRxx6v893B0gWEkpjCubnxse1PKyk4w4ln3QzaAhL3sar4cpr9dv+zNG/S9ce6ngokPKaLde"
            "p3DNE8IZYzgmYaAFZQOCCyAAAAMAUAnQEqFwARAD5lKJBFpCKhm/1UAEAGRLQXuQLxCrNy3wP5yPQARfPZl7Yh"
            "9jjbh0AA/v3wKbkWnqWV64+gQMT/zDUfet7wrWUOpEKItoA9PXqfh4y590Aj2vTMX96ufB3e4s8i3OVeeims/2"
            "fFp6EnnU1ISAVu6QddSPkRDXNStw2tMPYFfjPRjSCOrtSZB5xeDKefgVw8rHM2COlbJGqfZTKdxBNLAJyMjAZj"
            "yQAAAEFOTUbQAQAAAAAAAAAAFgAAEAAAZAAAAkFMUEgTAQAABRehIAABBP8vmlMTIiLBtPjCgSRZaR2HJHyNIk"
            "/xiP7HhBy+u6PgK7z0J5Nk5KfUjTMfE6pGWKnC5eK8xC7I7BKHAtn5EnXwkVVX0xtkxRBtS0qSZpfbVx7cWaPm"
            "Zae+7BsT3s6LLAwjyvsKn0PcQz3oiFTyiiX0GVDD9y+YN9nfvzqGge23SIDsDodwz3YrmISGSUc0f9v/Q+LwJb"
            "dDZzKR3SPJdp+YVl/DAs/nnsWQPO/femebMHPUJqWktC57pzBl7NNrr8h+Rpv92ncT3dPu3i74HCBLBV/TlL5/"
            "HhWfnSKrou+MNQ8q49qiwIyA7+gn3+6kbZ1nE7+gp76cUsOGSA3ZtHJlKOqdh3foVxJDtRAAVlA4IJwAAABwBA"
            "CdASoXABEAPmUoj0WkIqEb/VQAQAZEtABOmUI8z9mAOCPf+atsy9e6UAD+/fApxB/fDsxLkQQo4B6gKHE/R32I"
            "dm6lP8sscKh/+HjLn3QCPYednLHsvAESo3sXJmSbt1AoIEbNK/GhwyFufX0MVOZgErOXxDQK/M9vIA2hB8cT8I"
            "smWDbwZt70pHpoqvHWTc4PTe9KTAY9wAA="
        ),
    }.items()
}
