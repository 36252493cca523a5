"""Which machine made a dump, which inputs tell machines apart: a layer under every plausible mistake."""
