// Counts thresholds: code = base + the steps of all i < COUNT with acc >= thresholds[i]; a step is -1 where down[i], else 1.
// thresholds[i] is bits ACC*i .. ACC*i+ACC-1; no order is needed. The code must fit OUT bits. Combinational.
// Definition: Staircase in intsim/arithmetic/requantizers/thresholds.py.
module threshold #(
    parameter integer ACC = 16,
    parameter integer COUNT = 15,
    parameter integer OUT = 4
) (
    input  wire signed [      ACC-1:0] acc,
    input  wire        [ACC*COUNT-1:0] thresholds,
    input  wire        [    COUNT-1:0] down,
    input  wire        [      OUT-1:0] base,
    output reg         [      OUT-1:0] code
);
  wire [COUNT-1:0] reached;
  generate
    genvar g;
    for (g = 0; g < COUNT; g = g + 1) begin : g_compare
      wire signed [ACC-1:0] place = thresholds[ACC*g+:ACC];
      assign reached[g] = acc >= place;
    end
  endgenerate
  integer i;
  always_comb begin
    code = base;
    for (i = 0; i < COUNT; i = i + 1) begin
      if (reached[i]) code = down[i] ? code - OUT'(1) : code + OUT'(1);
    end
  end
endmodule
