// A multiply-accumulate with one register of ACC bits, at each rising edge of clk:
//   clear:            acc = rule(0 + bias)        the bias is preloaded; one too wide overflows like any other sum
//   else enable:      acc = rule(acc + a * b)
// rule wraps (SATURATE = 0) or saturates (1). a has A bits, two's complement where A_SIGNED, b likewise.
// Definition: intsim/arithmetic/accumulate.py, one stage that takes the rest.
module mac #(
    parameter integer A = 8,
    parameter integer A_SIGNED = 1,
    parameter integer B = 8,
    parameter integer B_SIGNED = 1,
    parameter integer ACC = 32,
    parameter integer SATURATE = 0,
    parameter integer BIAS = 32
) (
    input  wire                   clk,
    input  wire                   clear,
    input  wire                   enable,
    input  wire        [   A-1:0] a,
    input  wire        [   B-1:0] b,
    input  wire signed [BIAS-1:0] bias,
    output reg  signed [ ACC-1:0] acc
);
  localparam integer P = A + B + 2;
  wire signed [A:0] left = {A_SIGNED != 0 && a[A-1], a};
  wire signed [B:0] right = {B_SIGNED != 0 && b[B-1], b};
  wire signed [P-1:0] product = P'(left) * P'(right);
  wire signed [ACC-1:0] loaded, added;
  overflow_add #(.ACC(ACC), .IN(BIAS), .SATURATE(SATURATE)) load (.held({ACC{1'b0}}), .value(bias), .sum(loaded));
  overflow_add #(.ACC(ACC), .IN(P), .SATURATE(SATURATE)) add (.held(acc), .value(product), .sum(added));
  always @(posedge clk) begin
    if (clear) acc <= loaded;
    else if (enable) acc <= added;
  end
endmodule
