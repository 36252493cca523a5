// y = x * 2^-shift rounded to an integer; 0 <= shift < IN. Combinational.
// ROUNDING, in the order of intsim's modes: 0 half_even, 1 half_away, 2 half_toward_zero, 3 half_up, 4 floor, 5 ceil,
// 6 away, 7 toward_zero. Definition: intsim/arithmetic/rounding.py.
module round_shift #(
    parameter integer IN = 64,
    parameter integer SHIFT = 6,
    parameter integer ROUNDING = 3
) (
    input  wire signed [   IN-1:0] x,
    input  wire        [SHIFT-1:0] shift,
    output wire signed [   IN-1:0] y
);
  wire signed [IN-1:0] below = x >>> shift;
  wire [IN-1:0] rest = x & ~({IN{1'b1}} << shift);
  wire [IN-1:0] half = ({{(IN - 1) {1'b0}}, 1'b1} << shift) >> 1;
  wire inexact = rest != 0;
  wire above = rest > half;
  wire tie = inexact && rest == half;
  wire negative = x[IN-1];
  wire up = ROUNDING == 0 ? above || (tie && below[0])
          : ROUNDING == 1 ? above || (tie && !negative)
          : ROUNDING == 2 ? above || (tie && negative)
          : ROUNDING == 3 ? above || tie
          : ROUNDING == 4 ? 1'b0
          : ROUNDING == 5 ? inexact
          : ROUNDING == 6 ? inexact && !negative
          : inexact && negative;
  assign y = below + IN'({1'b0, up});
endmodule
