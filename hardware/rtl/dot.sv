// A dot product of products that arrive one a cycle, through a chain of STAGES accumulator stages (stage.sv).
// A pair is taken at a rising edge with in_valid and in_ready; in_last marks the last one. out_valid marks acc, one cycle.
// in_ready is low from the last pair of a sum to its acc, so sums don't meet. rst is synchronous.
// Stage i has bits 32*i.. of BITS, SUM (0: the rest), LANES, and bit i of SATURATE; RESTART is of the first stage.
// The last stage takes the rest and has one lane. BIAS_MODE: 0 no bias, 1 preloaded into the last register, 2 added after
// all products. bias comes with the pairs, the same with all pairs of a sum.
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

  wire [WIDE*(STAGES+1)-1:0] values;
  wire [STAGES:0] valid, last;
  wire [STAGES-1:0] ready;
  reg busy;
  assign in_ready = ready[0] && !busy;
  assign values[WIDE-1:0] = value;
  assign valid[0] = in_valid && !busy;
  assign last[0] = in_last;
  generate
    genvar i;
    for (i = 0; i < STAGES; i = i + 1) begin : g_stage
      localparam integer W = BITS[32*i+:32];
      wire signed [W-1:0] handed;
      stage #(
          .IN(WIDE),
          .BITS(W),
          .SATURATE({31'd0, SATURATE[i]}),
          .SUM(SUM[32*i+:32]),
          .LANES(LANES[32*i+:32]),
          .RESTART(i == 0 ? RESTART : 0),
          .BIAS(BIAS),
          .PRELOAD(i == STAGES - 1 && BIAS_MODE == 1 ? 1 : 0),
          .AFTER(i == STAGES - 1 && BIAS_MODE == 2 ? 1 : 0)
      ) register (
          .clk(clk),
          .rst(rst),
          .in_valid(valid[i]),
          .in_ready(ready[i]),
          .in_last(last[i]),
          .in_value(values[WIDE*i+:WIDE]),
          .bias(offset),
          .out_valid(valid[i+1]),
          .out_last(last[i+1]),
          .out_value(handed)
      );
      assign values[WIDE*(i+1)+:WIDE] = WIDE'(handed);
    end
  endgenerate
  always @(posedge clk) begin
    bias_held <= bias_now;
    if (rst) busy <= 1'b0;
    else if (in_valid && in_ready && in_last) busy <= 1'b1;
    else if (out_valid) busy <= 1'b0;
  end
  assign out_valid = valid[STAGES] && last[STAGES];
  wire signed [WIDE-1:0] result = values[WIDE*STAGES+:WIDE];
  assign acc = ACC'(result) <<< DROP;
  wire unused = &{1'b0, ready, result};
endmodule
