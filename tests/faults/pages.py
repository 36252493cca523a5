"""Faults in reports: a name that is followed, a limit that is another's, a picture of something else."""

from .planting import Fault

FAULTS = (
    Fault(
        "page-follows-names",
        "a layer called <script> is a script of the page",
        "report.page.page.page",
        'environment.get_template("page.html")',
        'environment.overlay(autoescape=False).get_template("page.html")',
        "tests/report/test_page.py::test_nothing_comes_from_elsewhere_and_nothing_of_a_file_is_code",
        slow=True,
    ),
    Fault(
        "plot-follows-names",
        "a layer called <a href=...> is a link in a plot",
        "report.page.figures.plain",
        "escape(printable(text), quote=False)",
        "printable(text)",
        "tests/report/test_page.py::test_names_that_plotly_would_read",
        slow=True,
    ),
    Fault(
        "limit-of-the-best-layer",
        "the layer that is said to limit the width is the one with most bits to spare",
        "report.summary.limiting",
        "-n.missing",
        "n.missing",
        "tests/report/test_summary.py::test_the_limiting_layer",
        slow=True,
    ),
    Fault(
        "histogram-register-one-bit-narrower",
        "sums that just fit their register are shown as if they did not",
        "report.page.registers._fitting",
        "np.arange(counts.size) <= (MOST_BITS + 1 if stage.bits is None else stage.bits)",
        "np.arange(counts.size) < (MOST_BITS + 1 if stage.bits is None else stage.bits)",
        "tests/report/test_page.py::test_figures_say_what_results_say",
        slow=True,
    ),
    Fault(
        "altered-certificate-is-shown",
        "a certificate whose verdict was edited is shown as certified",
        "report.results._certificate",
        'digest(content) != content["digest"]',
        'digest(content) == ""',
        "tests/report/test_results.py::test_a_certificate_that_was_altered",
        slow=True,
    ),
    Fault(
        "network-of-another-file",
        "a model that was changed since is drawn with the bits of the one before",
        "report.page.page._graph",
        "names <= {shown(n) for n in nodes} and tensors <= known.keys()",
        "tensors <= known.keys()",
        "tests/report/test_page.py::test_a_network_that_is_not_that_of_the_result",
        slow=True,
    ),
    Fault(
        "failure-takes-a-screen",
        "pytest shows a failed assertion of intsim's in more than fifteen lines",
        "pytest_plugin.pytest_runtest_makereport",
        'found.getrepr(style="short", tbfilter=lambda e: e.traceback.cut(path=item.path).filter(e))',
        "found.getrepr(tbfilter=lambda e: e.traceback.cut(path=item.path).filter(e))",
        "tests/test_assertions.py::test_a_failure_takes_fifteen_lines[False-proof]",
        slow=True,
    ),
)
