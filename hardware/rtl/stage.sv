// One stage of an accumulator: LANES registers of BITS bits that take values in turn, each adds SUM of them (0: all there
// are), by its overflow rule (SATURATE). What a full register holds, or any at the end (in_last), or after RESTART values
// (0: never), is handed on, in the order of the lanes.
// A value is taken at a rising edge with in_valid and in_ready; out_valid marks what is handed on, a cycle later or more,
// out_last its last one. in_ready is low while registers that never got full are handed on, one a cycle. rst is
// synchronous. PRELOAD: registers begin at bias, loaded by their rule, in place of 0. AFTER: bias is one more addition
// behind the last value. Both are for stages with LANES = 1 and SUM = 0.
// Definition: intsim/arithmetic/accumulate.py.
module stage #(
    parameter integer IN = 18,
    parameter integer BITS = 32,
    parameter integer SATURATE = 0,
    parameter integer SUM = 0,
    parameter integer LANES = 1,
    parameter integer RESTART = 0,
    parameter integer BIAS = 32,
    parameter integer PRELOAD = 0,
    parameter integer AFTER = 0
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   in_valid,
    output wire                   in_ready,
    input  wire                   in_last,
    input  wire signed [  IN-1:0] in_value,
    input  wire signed [BIAS-1:0] bias,
    output reg                    out_valid,
    output reg                    out_last,
    output reg signed  [BITS-1:0] out_value
);
  localparam integer LW = LANES > 1 ? $clog2(LANES) : 1;
  localparam integer SW = SUM > 1 ? $clog2(SUM) : 1;
  localparam integer RW = RESTART > 1 ? $clog2(RESTART) : 1;
  localparam [LW-1:0] TOP = LW'(LANES - 1);
  localparam [SW-1:0] FULL = SW'(SUM - 1);
  localparam [RW-1:0] RENEW = RW'(RESTART - 1);

  reg signed [BITS-1:0] held[0:LANES-1];
  reg [LW-1:0] lane, flush, stop;
  reg [SW-1:0] round;  // values that the current lane has had, where it counts them
  reg [RW-1:0] seen;
  reg begun;  // the first round is over, where nothing counts rounds
  reg flushing, ending;

  wire take = in_valid && in_ready;
  wire first = SUM != 0 ? round == 0 : !begun;
  wire full = SUM != 0 && round == FULL;
  wire close = in_last || (RESTART != 0 && seen == RENEW);

  wire signed [BITS-1:0] initial_value, summed, finished;
  wire signed [BITS-1:0] prior = first ? initial_value : held[lane];
  overflow_add #(.ACC(BITS), .IN(IN), .SATURATE(SATURATE)) add (.held(prior), .value(in_value), .sum(summed));
  generate
    if (PRELOAD != 0) begin : g_preload
      overflow_add #(.ACC(BITS), .IN(BIAS), .SATURATE(SATURATE)) load (
          .held({BITS{1'b0}}), .value(bias), .sum(initial_value));
    end else begin : g_zero
      assign initial_value = 0;
    end
    if (AFTER != 0) begin : g_after
      overflow_add #(.ACC(BITS), .IN(BIAS), .SATURATE(SATURATE)) finish (
          .held(summed), .value(bias), .sum(finished));
    end else begin : g_none
      assign finished = summed;
    end
  endgenerate

  // of a group that ends early: registers behind a full one, or all that hold something
    wire [LW-1:0] upto = first ? lane : TOP;
  wire rest = LANES > 1 && (full ? (lane != TOP && !first) : 1'b1);
  wire [LW-1:0] from = full && rest ? lane + LW'(1) : LW'(0);

  assign in_ready = !flushing;
  always @(posedge clk) begin
    out_valid <= 1'b0;
    out_last <= 1'b0;
    if (rst) begin
      lane <= 0;
      round <= 0;
      seen <= 0;
      begun <= 1'b0;
      flushing <= 1'b0;
      ending <= 1'b0;
      flush <= 0;
      stop <= 0;
      out_value <= 0;
    end else if (flushing) begin
      out_valid <= 1'b1;
      out_value <= held[flush];
      out_last <= ending && flush == stop;
      flushing <= flush != stop;
      flush <= flush == stop ? LW'(0) : flush + LW'(1);
    end else if (take) begin
      held[lane] <= summed;
      if (full || (close && LANES == 1)) begin
        out_valid <= 1'b1;
        out_value <= in_last ? finished : summed;
        out_last <= in_last && !rest;
      end
      if (close) begin
        lane <= 0;
        round <= 0;
        seen <= 0;
        begun <= 1'b0;
        flushing <= rest;
        ending <= in_last;
        flush <= from;
        stop <= upto;
      end else begin
        lane <= lane == TOP ? LW'(0) : lane + LW'(1);
        seen <= seen + RW'(1);
        if (lane == TOP) begin
          begun <= 1'b1;
          round <= full ? SW'(0) : round + SW'(1);
        end
      end
    end
  end
  wire unused = &{1'b0, bias, seen, begun};
endmodule
