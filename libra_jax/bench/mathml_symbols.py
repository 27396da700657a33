r"""The symbols of mathml.py: names of TeX commands, without the backslash, and what they show."""

from __future__ import annotations

_GREEK = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho _ sigma tau upsilon "
          "phi chi psi omega").split()

LETTERS = (
    {name: chr(0x3B1 + place) for place, name in enumerate(_GREEK) if name != "_"}
    | {name.capitalize(): chr(0x391 + place) for place, name in enumerate(_GREEK) if name != "_"}
    | {"varepsilon": "ε", "epsilon": "ϵ", "varphi": "φ", "phi": "ϕ", "vartheta": "ϑ", "varrho": "ϱ", "varsigma": "ς",
       "ell": "ℓ", "hbar": "ℏ", "imath": "ı", "Re": "ℜ", "Im": "ℑ", "aleph": "ℵ", "infty": "∞", "partial": "∂",
       "nabla": "∇", "emptyset": "∅", "varnothing": "∅", "triangle": "△", "angle": "∠", "degree": "°", "forall": "∀",
       "exists": "∃", "top": "⊤", "bot": "⊥", "square": "□", "Box": "□", "blacksquare": "■", "checkmark": "✓",
       "pounds": "£", "euro": "€", "dagger": "†", "star": "⋆", "prime": "′", "diamond": "⋄",
       "clubsuit": "♣", "diamondsuit": "♢", "heartsuit": "♡", "spadesuit": "♠", "%": "%", "$": "$",
       "#": "#", "&": "&", "_": "_"}
)

OPERATORS = {
    "times": "×", "cdot": "⋅", "div": "÷", "pm": "±", "mp": "∓", "ast": "∗", "circ": "∘", "bullet": "•", "oplus": "⊕",
    "otimes": "⊗", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠",
    "neq": "≠", "lt": "<", "gt": ">", "ll": "≪", "gg": "≫", "approx": "≈", "equiv": "≡", "cong": "≅", "sim": "∼",
    "simeq": "≃", "propto": "∝", "in": "∈", "notin": "∉", "ni": "∋", "subset": "⊂", "subseteq": "⊆", "supset": "⊃",
    "supseteq": "⊇", "cup": "∪", "cap": "∩", "setminus": "∖", "backslash": "∖", "land": "∧", "wedge": "∧", "lor": "∨",
    "vee": "∨", "neg": "¬", "lnot": "¬", "mid": "∣", "nmid": "∤", "parallel": "∥", "perp": "⟂", "to": "→",
    "rightarrow": "→", "leftarrow": "←", "leftrightarrow": "↔", "longrightarrow": "⟶", "Rightarrow": "⇒",
    "Leftarrow": "⇐", "Leftrightarrow": "⇔", "Longrightarrow": "⟹", "implies": "⟹", "impliedby": "⟸", "iff": "⟺",
    "mapsto": "↦", "uparrow": "↑", "downarrow": "↓", "therefore": "∴", "because": "∵", "ldots": "…", "dots": "…",
    "dotsc": "…", "dotsb": "⋯", "dotsm": "⋯", "cdots": "⋯", "vdots": "⋮", "ddots": "⋱", "colon": ":",
    "langle": "⟨", "rangle": "⟩",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "lvert": "|", "rvert": "|", "vert": "|", "lVert": "‖",
    "rVert": "‖", "Vert": "‖", "|": "‖", "{": "{", "}": "}", "lbrace": "{", "rbrace": "}", "lbrack": "[",
    "rbrack": "]", "models": "⊨", "vdash": "⊢", "prec": "≺",
    "succ": "≻", "asymp": "≍", "doteq": "≐",
}

BIG = {"sum": "∑", "prod": "∏", "coprod": "∐", "bigcup": "⋃", "bigcap": "⋂", "bigoplus": "⨁", "int": "∫", "iint": "∬",
       "oint": "∮"}

FUNCTIONS = {name: name for name in (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det dim ker deg gcd lcm lim max min sup "
    "inf arg Pr hom").split()} | {"limsup": "lim sup", "liminf": "lim inf"}

LIMITS = {"\\" + name for name in (
    "sum prod coprod bigcup bigcap bigoplus lim limsup liminf max min sup inf gcd det Pr underbrace overbrace").split()}

SPACES = {",": "0.17em", ":": "0.22em", ";": "0.28em", "!": "-0.17em", " ": "0.33em", "quad": "1em", "qquad": "2em",
          "thinspace": "0.17em", "enspace": "0.5em", "\n": "0.33em", ">": "0.22em"}

IGNORED = {"displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "nonumber", "notag", "hline", "rm", "it",
           "normalsize", "small", "large"}

LINES = {"overline": "over", "underline": "under"}  # the class of a box with a line, which no font need have

ACCENTS = {"bar": "‾", "hat": "^", "widehat": "^", "tilde": "~", "widetilde": "~", "vec": "→",
           "overrightarrow": "→", "overleftrightarrow": "↔", "dot": "˙", "ddot": "¨",
           "overbrace": "⏞", "underbrace": "⏟", "overarc": "⌒"}

BLACKBOARD = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "Q": "ℚ", "C": "ℂ", "P": "ℙ", "F": "𝔽", "E": "𝔼", "H": "ℍ"}

NEGATED = {"=": "≠", "<": "≮", ">": "≯", r"\in": "∉", r"\equiv": "≢", r"\subset": "⊄", r"\mid": "∤", r"\sim": "≁"}

DELIMITERS = {
    ".": "", "(": "(", ")": ")", "[": "[", "]": "]", "|": "|", "/": "/", "<": "⟨", ">": "⟩", r"\{": "{", r"\}": "}",
    r"\|": "‖",
} | {"\\" + name: OPERATORS[name] for name in (
    "langle rangle lfloor rfloor lceil rceil lvert rvert vert lVert rVert Vert lbrace rbrace lbrack rbrack backslash "
    "uparrow downarrow").split()}

# opening delimiter, closing delimiter, class of the table
ENVIRONMENTS = {
    "matrix": ("", "", "matrix"), "smallmatrix": ("", "", "matrix"), "pmatrix": ("(", ")", "matrix"),
    "bmatrix": ("[", "]", "matrix"), "Bmatrix": ("{", "}", "matrix"), "vmatrix": ("|", "|", "matrix"),
    "Vmatrix": ("‖", "‖", "matrix"), "array": ("", "", "matrix"), "cases": ("{", "", "cases"),
} | {name + star: ("", "", "aligned") for name in ("align", "aligned", "equation", "gather", "gathered", "split")
     for star in ("", "*")}

ESCAPED = {"%": "%", "$": "$", "#": "#", "&": "&", "_": "_", "{": "{", "}": "}", " ": " ", ",": " ", ";": " "}
