// A dot product of products that arrive one a cycle, through STAGES accumulator stages (chain.sv).
// A pair is taken at a rising edge with in_valid and in_ready; in_last marks the last one. out_valid marks acc, one cycle.
// in_ready is low from the last pair of a sum to its acc, so sums don't meet. rst is synchronous.
// STAGES to BIAS_MODE are those of the chain. bias comes with the pairs, the same with all pairs of a sum.
// DROP > 0 (the first stage then has SUM = 1): so many low bits of each product, and of the bias, are rounded off
// (ROUNDING, round_shift.sv); acc is shifted back. WIDE is at least A + B + 2 and every BITS.
// Definition: intsim/arithmetic/accumulate.py; docs/targets.md.
module dot #(
    parameter integer A = 8,
    parameter integer A_SIGNED = 1,
    parameter integer B = 8,
    parameter integer B_SIGNED = 1,
    parameter integer STAGES = 1,
    parameter [32*STAGES-1:0] BITS = 32,
    parameter [32*STAGES-1:0] SUM = 0,
    parameter [32*STAGES-1:0] LANES = 1,
    parameter [STAGES-1:0] SATURATE = 0,
    parameter integer RESTART = 0,
    parameter integer BIAS = 32,
    parameter integer BIAS_MODE = 0,
    parameter integer DROP = 0,
    parameter integer ROUNDING = 4,
    parameter integer WIDE = 64,
    parameter integer ACC = 32
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   in_valid,
    output wire                   in_ready,
    input  wire                   in_last,
    input  wire        [   A-1:0] a,
    input  wire        [   B-1:0] b,
    input  wire signed [BIAS-1:0] bias,
    output wire                   out_valid,
    output wire signed [ ACC-1:0] acc
);
  localparam integer P = A + B + 2;
  reg signed [BIAS-1:0] bias_held;
  wire signed [BIAS-1:0] bias_now = in_valid && in_ready ? bias : bias_held;
  wire signed [A:0] left = {A_SIGNED != 0 && a[A-1], a};
  wire signed [B:0] right = {B_SIGNED != 0 && b[B-1], b};
  wire signed [P-1:0] product = P'(left) * P'(right);
  wire signed [WIDE-1:0] value;
  wire signed [BIAS-1:0] offset;
  generate
    if (DROP != 0) begin : g_drop
      wire signed [WIDE-1:0] wide = WIDE'(product);
      localparam integer WB = BIAS > DROP ? BIAS : DROP + 1;
      wire signed [WB-1:0] wide_bias = WB'(bias_now);
      wire signed [WB-1:0] rounded_bias;
      round_shift #(.IN(WIDE), .SHIFT(6), .ROUNDING(ROUNDING)) round (.x(wide), .shift(6'(DROP)), .y(value));
      round_shift #(.IN(WB), .SHIFT(6), .ROUNDING(ROUNDING)) round_bias (
          .x(wide_bias), .shift(6'(DROP)), .y(rounded_bias));
      assign offset = BIAS'(rounded_bias);
    end else begin : g_keep
      assign value = WIDE'(product);
      assign offset = bias_now;
    end
  endgenerate

  reg busy;
  wire ready;
  wire signed [WIDE-1:0] result;
  assign in_ready = ready && !busy;
  chain #(
      .STAGES(STAGES),
      .BITS(BITS),
      .SUM(SUM),
      .LANES(LANES),
      .SATURATE(SATURATE),
      .RESTART(RESTART),
      .BIAS(BIAS),
      .BIAS_MODE(BIAS_MODE),
      .WIDE(WIDE)
  ) registers (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid && !busy),
      .in_ready(ready),
      .in_last(in_last),
      .in_value(value),
      .bias(offset),
      .out_valid(out_valid),
      .out_value(result)
  );
  always @(posedge clk) begin
    bias_held <= bias_now;
    if (rst) busy <= 1'b0;
    else if (in_valid && in_ready && in_last) busy <= 1'b1;
    else if (out_valid) busy <= 1'b0;
  end
  assign acc = ACC'(result) <<< DROP;
  wire unused = &{1'b0, result};
endmodule
