// mac.sv once more: overflow is where both terms have the same sign and the sum has the other one.
module other_mac #(
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
  // A + B < ACC and BIAS = ACC: terms fit the register, so one bit more says all
  wire signed [A:0] x = A_SIGNED != 0 ? $signed({a[A-1], a}) : $signed({1'b0, a});
  wire signed [B:0] y = B_SIGNED != 0 ? $signed({b[B-1], b}) : $signed({1'b0, b});
  wire signed [ACC-1:0] product = x * y;
  wire signed [ACC-1:0] sum = acc + product;
  wire overflow = acc[ACC-1] == product[ACC-1] && sum[ACC-1] != acc[ACC-1];
  wire [ACC-1:0] rail = acc[ACC-1] ? {1'b1, {(ACC - 1) {1'b0}}} : {1'b0, {(ACC - 1) {1'b1}}};
  always @(posedge clk) acc <= clear ? bias : !enable ? acc : overflow && SATURATE != 0 ? rail : sum;
endmodule
