"""What the study's page says whatever was measured, and the paper's own figures beside it."""

from __future__ import annotations

HEAD = """\
# Hilbert-curve outputs: a study with equal trainings

Generated from `models/study/results/*.json` by `python -m models.study report`; don't edit. Every figure and every
sentence that depends on figures is computed from those files.

A network that predicts disparity as a point on a Hilbert curve (two or three 8-bit outputs) is compared with its plain
twin (one 8-bit output). The representation is that of Uss et al., "Predicting High-precision Depth on Low-Precision
Devices Using 2D Hilbert Curves" (ICML 2025, arXiv 2405.14024), called "the paper" below.

## What was measured, and how

**Networks.** p0 is the plain network; p1 to p4 have a 2-D curve of order 1 to 4, c1 and c2 a 3-D curve of order 1
and 2. All have the same trunk, a U-Net at half resolution, and differ in their heads alone. `_still` was trained
without feature noise, `_guide` has one head more that predicts q itself and helps to choose the branch, `_commit` has
a loss term that keeps points on the curve, `_depth` one on the decoded depth. Noise means a Gaussian layer in front of
the heads that acts in training alone.

**Equal training.** With the same seed every network sees the same generated pairs in the same order, with the same
optimizer and schedule (`models/recipes/study/`); the table of trainings says for how many steps. A seed decides
initial weights, order of pairs, augmentation and noise. Seeds say how far results are chance; what two or three of
them say about it is itself rough.

**Data.** Generated scenes with exact ground truth (`models/stereo.py`, the hard kind), 64 x 128 pixels, disparities
0 to 24 px, outputs at half resolution. The test pairs have other scenes and other textures than training, and were not
used to choose anything; whatever had to be chosen was chosen on the validation pairs. Real photographs are a check of
plausibility, not of accuracy: no network was trained on any.

**Precisions.** W8A8 networks are quantized after training, calibrated on training pairs: weights 8 bits per output
channel, activations 8 bits per tensor, outputs 256 codes. Other schemes have a section of their own. "FP32" is
the float network. "CPU" has quantized weights and float arithmetic; it has the errors of weights only. "DSP" is
the whole network in integers, bit for bit, on the target named; `exact` has accumulators without bounds and exact
requantizers. These are the paper's terms. "DSP" here is a simulation of integer arithmetic, not a run on a device.

**Against the ground truth**, over valid pixels: EPE, mean absolute error; RMSE; D1, share of errors above 3 px and
5 %; Abs Rel, mean relative error of depth; S_C, mean cosine of the DCT coefficients (without DC) of 4 x 4 windows. S_C
counts every window alike, and half of the generated test windows change by less than 0.21 px, which asks for detail far
below the end-point error. The paper's wording leaves room: it discards zero coefficients, read here as DC.

**Quantization error**, over all pixels: e = quantized minus the same network's float output, decoded the same way.
Mean and median of |e|, RMSE, robust SD (1.4826 times the median absolute deviation), jumps (share of |e| above
1.5 edges of the order-3 curve, 0.57 px, for all networks alike), and bits, log2(range / (sqrt(12) SD)), by robust SD
and by RMSE. The robust SD doesn't see jumps to a wrong branch of the curve, whatever their size; mean and RMSE do.
None of these figures suffices alone. `models/study/metrics.py` defines them; they were fixed before the networks were
measured.

**Ratios** (÷) are the plain network's error over this network's, of the same seed, noise, precision and target, then
averaged over seeds. The bar, fixed beforehand: robust SD at least 5 times smaller, mean and RMSE at least 2.5 times.
✓ means that every seed reaches it, (✓) that only their mean does.

**Spread.** a ± b is the mean and standard deviation over seeds, a (b..c) mean, least and largest. A figure without
either is of one seed.

**What this is not.** Small networks on generated scenes, trained briefly, are no competitive stereo method. The paper's
figures stand beside ours as its figures, from other data, sizes, trainings and hardware; only directions and ratios can
be compared. A difference smaller than the spread over seeds is no difference."""

WHY = """\
An error that arises late, in the last features and in the rounding of the outputs, moves the point a little; along the
curve that is L times less of q. This is the gain that the robust SD shows, and most pixels have it.

An error that arises early moves what the network believes. Think of a decision variable u that takes the output from
one surface's disparity to another's over an edge or an occlusion. An error d in u shifts the place where that happens.
On average over pixels the output is then wrong by d times the density of pixels along u times the distance that the
decoded value travels between both ends, however steep the transition is, and whatever stands for the number. A plain
output travels from one disparity to the other. The point of a Hilbert network crosses the square on a straight line,
over branches that stand for anything: the decoded value travels further, in jumps. A guide with a window or a weight
leaves out foreign branches, so that the way is about as long as the plain network's; blending towards the guide is a
way from the curve to the guide, as long as these two disagree. Nothing makes it L times shorter. So the mean can gain
by as much as late errors are of all errors, and no more; the RMSE, which weighs jumps by their squares, loses where the
same way is made in a few large steps instead of many small ones.

Tried on validation pairs and dropped, as it did not lower mean or RMSE over all pixels: guidance from neighbours (the
median of trusted pixels in 3 x 3 or 5 x 5 windows, as a guide or in place of untrusted pixels), which made both worse;
averaging of the two best branches within the window; a decoder without steps at turns, which lowers the RMSE of trusted
pixels and raises the robust SD."""

PAPER = {
    ("dispnet", 0): ((1.01, 1.12, 0.86, 0.29, 1.81), (1.15, 1.10, 0.68, 0.31, 1.73), (2.03, 2.24, 0.58, 0.69, 5.35)),
    ("dispnet", 1): ((1.06, 0.97, 0.86, 0.27, 1.27), (1.12, 0.97, 0.79, 0.29, 1.27), (1.50, 1.09, 0.67, 0.35, 2.25)),
    ("dispnet", 2): ((0.85, 0.90, 0.87, 0.22, 1.01), (0.88, 0.91, 0.83, 0.23, 1.02), (0.98, 0.94, 0.75, 0.25, 1.26)),
    ("dispnet", 3): ((0.88, 1.00, 0.87, 0.24, 1.25), (0.87, 1.00, 0.86, 0.24, 1.25), (0.93, 1.03, 0.81, 0.24, 1.26)),
    ("dispnet", 4): ((0.90, 1.02, 0.85, 0.24, 1.24), (0.92, 1.02, 0.85, 0.24, 1.24), (0.94, 1.02, 0.83, 0.25, 1.25)),
    ("dpt", 0): ((0.75, 0.87, 0.89, 0.21, 0.95), (1.48, 1.03, 0.87, 0.39, 1.39), (4.18, 2.09, 0.52, 1.03, 5.78)),
    ("dpt", 1): ((0.70, 0.88, 0.88, 0.20, 1.01), (0.78, 0.89, 0.88, 0.22, 1.03), (1.48, 1.41, 0.54, 0.41, 2.77)),
    ("dpt", 2): ((0.71, 0.91, 0.88, 0.20, 1.07), (0.72, 0.91, 0.88, 0.20, 1.08), (1.12, 1.02, 0.62, 0.29, 1.27)),
    ("dpt", 3): ((0.55, 0.80, 0.90, 0.15, 0.78), (0.63, 0.80, 0.90, 0.17, 0.78), (1.35, 1.33, 0.70, 0.32, 1.28)),
    ("dpt", 4): ((0.74, 0.94, 0.87, 0.21, 1.14), (0.76, 0.94, 0.86, 0.21, 1.14), (1.27, 1.38, 0.73, 0.32, 1.62)),
}
"""The paper's Table 1 (ScanNet, 2-D curves), by family and order: FP32, W8A8 "CPU", W8A8 "DSP"; Abs Rel %, RMSE px,
S_C, EPE px, D1 %."""

PAPER_NOTE = """\
Columns headed "paper" are Table 1 of the paper: ScanNet, 384 x 512 pixels, other networks and hardware, one training
each; the paper has no 3-D curves."""

PAPER_RATIOS = """\
The paper reports, for robust SD and its network of order 3, 3.13 on "CPU" and about 4.6 on "DSP"."""

MASKED_NOTE = """\
`masked` answers for a part of the pixels alone ("pixels %"), those whose point lies close to the curve. Accuracy and
error are over that part, but the plain network they are divided into answers for all pixels, difficult ones included:
these ratios say what the confidence bit is worth, not what the network is."""

SCHEMES_NOTE = """\
Networks named q_ were trained on with quantization from the float network of the same head and seed, all for equally
few steps: wNaM has N-bit weights and M-bit activations, ternary and binary weights have 8-bit activations, a2q_N and
a2qplus_N keep sums inside N bits, shift has powers of two as scales. First and last layer have 8-bit weights. Their
weights have moved away from the float network's, so the error says little about them: compare accuracy."""

PAPER_OVERHEAD = """\
The paper reports an overhead of less than 7 % of run time in its first version (arXiv, May 2024) and of about 14 % on
the DSP in its second (ICML 2025)."""
