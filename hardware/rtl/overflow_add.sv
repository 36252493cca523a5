// One addition and a register's overflow rule: sum = rule(held + value), in ACC bits, ACC >= 2.
// SATURATE = 0 keeps the lowest bits (wrap), 1 clips to -2^(ACC-1)..2^(ACC-1)-1. Combinational.
// Definition: intsim/arithmetic/accumulate.py.
module overflow_add #(
    parameter integer ACC = 32,
    parameter integer IN = 16,
    parameter integer SATURATE = 0
) (
    input  wire signed [ACC-1:0] held,
    input  wire signed [ IN-1:0] value,
    output wire signed [ACC-1:0] sum
);
  localparam integer W = (ACC > IN ? ACC : IN) + 1;
  wire signed [W-1:0] total = W'(held) + W'(value);
  generate
    if (SATURATE != 0) begin : g_saturate
      wire negative = total[W-1];
      // it fits where all bits from the register's sign on are the same
      wire fits = total[W-1:ACC-1] == {(W - ACC + 1) {negative}};
      assign sum = fits ? total[ACC-1:0] : {negative, {(ACC - 1) {!negative}}};
    end else begin : g_wrap
      assign sum = total[ACC-1:0];
      wire unused = &{1'b0, total[W-1:ACC]};
    end
  endgenerate
endmodule
