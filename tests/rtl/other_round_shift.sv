// round_shift.sv once more: a constant is added, then an arithmetic shift.
module other_round_shift #(
    parameter integer IN = 64,
    parameter integer SHIFT = 6,
    parameter integer ROUNDING = 3
) (
    input  wire signed [   IN-1:0] x,
    input  wire        [SHIFT-1:0] shift,
    output wire signed [   IN-1:0] y
);
  wire signed [IN+1:0] one = 1;
  wire signed [IN+1:0] unit = one <<< shift;
  wire signed [IN+1:0] half = unit >>> 1;
  wire signed [IN+1:0] wide = x;
  wire signed [IN+1:0] shifted = wide >>> shift;
  wire odd = shifted[0];
  reg signed [IN+1:0] add;
  always @* begin
    case (ROUNDING)
      0: add = odd ? half : half - 1;
      1: add = x >= 0 ? half : half - 1;
      2: add = x >= 0 ? half - 1 : half;
      3: add = half;
      4: add = 0;
      5: add = unit - 1;
      6: add = x >= 0 ? unit - 1 : 0;
      default: add = x >= 0 ? 0 : unit - 1;
    endcase
    if (shift == 0) add = 0;
  end
  wire signed [IN+1:0] sum = wide + add;
  wire signed [IN+1:0] result = sum >>> shift;
  assign y = result[IN-1:0];
endmodule
