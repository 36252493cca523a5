// requantize.sv once more, in one width that nothing leaves, behind the same product: ACC <= 32, MUL <= 32, LEFT = 0
// unless TWICE.
module other_requantize #(
    parameter integer ACC = 32,
    parameter integer SATURATE = 0,
    parameter integer MUL = 32,
    parameter integer TWICE = 0,
    parameter integer ROUNDING = 3,
    parameter integer LEFT = 0,
    parameter integer RIGHT = 62,
    parameter integer ZERO = 9,
    parameter integer OUT = 8,
    parameter signed [OUT:0] LOW = -128,
    parameter signed [OUT:0] HIGH = 127
) (
    input  wire signed [ ACC-1:0] acc,
    input  wire signed [   ACC:0] bias,
    input  wire signed [ MUL-1:0] multiplier,
    input  wire        [     5:0] left,
    input  wire        [     5:0] right,
    input  wire signed [ZERO-1:0] zero,
    output wire        [ OUT-1:0] code
);
  localparam integer FULL = (TWICE != 0 ? 32 : ACC + LEFT) + MUL;
  // the same product of the same operands: no solver proves two multipliers equal
  wire signed [ACC-1:0] biased;
  overflow_add #(.ACC(ACC), .IN(ACC + 1), .SATURATE(SATURATE)) add (.held(acc), .value(bias), .sum(biased));
  wire signed [31:0] extended = 32'(biased);
  wire signed [31:0] moved = extended <<< left;
  wire signed [FULL-1:0] narrow = FULL'(biased) * FULL'(multiplier);
  wire signed [FULL-1:0] turned = FULL'(moved) * FULL'(multiplier);
  wire signed [71:0] product = TWICE != 0 ? turned : narrow;
  // ties up: the bit below the cut is added
  wire signed [71:0] scaled = TWICE != 0 ? (product >>> (MUL - 1)) + $signed({71'd0, product[MUL-2]}) : product;
  wire signed [71:0] rounded;
  other_round_shift #(.IN(72), .SHIFT(6), .ROUNDING(ROUNDING)) round (.x(scaled), .shift(right), .y(rounded));
  wire signed [73:0] total = rounded + zero;
  assign code = total <= LOW ? LOW[OUT-1:0] : total >= HIGH ? HIGH[OUT-1:0] : total[OUT-1:0];
endmodule
