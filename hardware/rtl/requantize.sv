// From an accumulator to a code, by a multiplier and shifts:
//   code = clip(R((acc + bias) * multiplier * 2^(left - right)) + zero, LOW, HIGH)
// acc + bias goes back into a register of ACC bits, by its rule (SATURATE); bias has a bit more.
// TWICE = 0: R rounds the full product once, as ROUNDING says (round_shift.sv).
// TWICE = 1: the left shift wraps in 32 bits (ACC <= 32), the high product, 2^-(MUL-1) of the product, takes ties up, and
//   2^-right of that is rounded as ROUNDING says: 1 is gemmlowp's and TFLite's, 3 is ruy's.
// |multiplier| < 2^(MUL-1); left <= LEFT; right <= RIGHT <= 63; LOW <= HIGH fit OUT bits, signed where LOW < 0.
// Combinational. Definition: intsim/arithmetic/requantizers.
module requantize #(
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
  // of two roundings the high product, one bit more for its own rounding
  localparam integer NEED = TWICE != 0 ? 34 : FULL;
  localparam integer P = NEED > RIGHT ? NEED : RIGHT + 1;
  localparam integer W0 = P > ZERO ? P : ZERO;
  localparam integer W = (W0 > OUT ? W0 : OUT) + 1;

  wire signed [ACC-1:0] biased;
  overflow_add #(.ACC(ACC), .IN(ACC + 1), .SATURATE(SATURATE)) add (.held(acc), .value(bias), .sum(biased));

  wire signed [P-1:0] scaled;
  generate
    if (TWICE != 0) begin : g_twice
      localparam signed [FULL-1:0] HALF = FULL'(2) <<< (MUL - 3);
      wire signed [31:0] wide = 32'(biased);
      wire signed [31:0] shifted = wide <<< left;
      wire signed [FULL-1:0] product = FULL'(shifted) * FULL'(multiplier);
      wire signed [FULL-1:0] high = (product + HALF) >>> (MUL - 1);
      assign scaled = P'(high);
      wire unused = &{1'b0, high};
    end else begin : g_once
      wire signed [FULL-1:0] product = FULL'(biased) * FULL'(multiplier);
      wire signed [FULL-1:0] shifted = LEFT != 0 ? product <<< left : product;
      assign scaled = P'(shifted);
      wire unused = &{1'b0, left};
    end
  endgenerate

  wire signed [P-1:0] rounded;
  round_shift #(.IN(P), .SHIFT(6), .ROUNDING(ROUNDING)) round (.x(scaled), .shift(right), .y(rounded));

  wire signed [W-1:0] total = W'(rounded) + W'(zero);
  wire [W-1:0] clipped = total < W'(LOW) ? W'(LOW) : total > W'(HIGH) ? W'(HIGH) : total;
  assign code = clipped[OUT-1:0];
  wire unused_high = &{1'b0, clipped[W-1:OUT]};
endmodule
