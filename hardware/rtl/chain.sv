// The STAGES stages of an accumulator (stage.sv), each handing on to the next.
// A value is taken at a rising edge with in_valid and in_ready; in_last marks the last one of a sum. out_valid marks
// out_value, one cycle; no value of the next sum may come before that. rst is synchronous.
// Stage i has bits 32*i.. of BITS, SUM (0: the rest), LANES, and bit i of SATURATE; RESTART is of the first stage.
// The last stage takes the rest and has one lane. BIAS_MODE: 0 no bias, 1 preloaded into the last register, 2 added after
// all values. bias holds still from the first value of a sum to out_valid. WIDE is at least every BITS.
// Definition: intsim/arithmetic/accumulate.py.
module chain #(
    parameter integer STAGES = 1,
    parameter [32*STAGES-1:0] BITS = 32,
    parameter [32*STAGES-1:0] SUM = 0,
    parameter [32*STAGES-1:0] LANES = 1,
    parameter [STAGES-1:0] SATURATE = 0,
    parameter integer RESTART = 0,
    parameter integer BIAS = 32,
    parameter integer BIAS_MODE = 0,
    parameter integer WIDE = 64
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   in_valid,
    output wire                   in_ready,
    input  wire                   in_last,
    input  wire signed [WIDE-1:0] in_value,
    input  wire signed [BIAS-1:0] bias,
    output wire                   out_valid,
    output wire signed [WIDE-1:0] out_value
);
  wire [WIDE*(STAGES+1)-1:0] values;
  wire [STAGES:0] valid, last;
  wire [STAGES-1:0] ready;
  assign in_ready = ready[0];
  assign values[WIDE-1:0] = in_value;
  assign valid[0] = in_valid;
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
          .bias(bias),
          .out_valid(valid[i+1]),
          .out_last(last[i+1]),
          .out_value(handed)
      );
      assign values[WIDE*(i+1)+:WIDE] = WIDE'(handed);
    end
  endgenerate
  assign out_valid = valid[STAGES] && last[STAGES];
  assign out_value = values[WIDE*STAGES+:WIDE];
  wire unused = &{1'b0, ready};
endmodule
