// dot.sv once more: the pairs of a sum are kept, and when its acc comes all of them are added up at once, group by group.
// Sums of up to MOST products through two stages, the second of one register; the bias, the same for all, is preloaded.
// wrong is high where acc is another number.
module other_dot #(
    parameter integer MOST = 4,
    parameter integer A = 3,
    parameter integer FIRST = 4,
    parameter integer FIRST_SATURATES = 1,
    parameter integer SUM = 2,
    parameter integer LANES = 1,
    parameter integer RESTART = 0,
    parameter integer LAST = 5,
    parameter integer LAST_SATURATES = 1
) (
    input  wire              clk,
    input  wire              in_valid,
    input  wire              in_last,
    input  wire        [A-1:0] a,
    input  wire        [A-1:0] b,
    input  wire        [LAST-1:0] bias,
    output wire              wrong
);
  reg [LAST-1:0] held_bias;
  reg begun = 1'b0;
  reg [31:0] count;
  reg signed [A-1:0] x[0:MOST-1];
  reg signed [A-1:0] y[0:MOST-1];
  wire in_ready, out_valid;
  wire signed [LAST-1:0] acc;
  wire last = in_last || count == MOST - 1;
  always @(posedge clk) begin
    begun <= 1'b1;
    if (!begun) held_bias <= bias;
    if (out_valid) count <= 0;
    if (begun && in_valid && in_ready) begin
      x[count] <= a;
      y[count] <= b;
      count <= count + 1;
    end
  end
  dot #(
      .A(A), .B(A), .STAGES(2), .BITS({LAST, FIRST}), .SUM({32'd0, SUM}), .LANES({32'd1, LANES}),
      .SATURATE({LAST_SATURATES != 0, FIRST_SATURATES != 0}), .RESTART(RESTART), .BIAS(LAST), .BIAS_MODE(1),
      .WIDE(2 * A + 2 > LAST ? 2 * A + 2 : LAST), .ACC(LAST)
  ) under_test (
      .clk(clk), .rst(1'b0), .in_valid(begun && in_valid), .in_ready(in_ready), .in_last(last), .a(a), .b(b),
      .bias(held_bias), .out_valid(out_valid), .acc(acc)
  );

  localparam signed [31:0] FIRST_MOST = (1 << (FIRST - 1)) - 1;
  localparam signed [31:0] LAST_MOST = (1 << (LAST - 1)) - 1;

  // a block is what comes between two restarts; in it lanes take turns, each adds up SUM
  localparam integer BLOCK = RESTART != 0 ? RESTART : MOST;
  localparam integer DEEP = SUM != 0 ? SUM : MOST;
  reg signed [31:0] total, part, product;
  reg some;
  integer block, group, lane, turn, at;
  always @* begin
    total = $signed(held_bias);
    part = 0;
    product = 0;
    some = 0;
    at = 0;
    for (block = 0; block < MOST; block = block + BLOCK)
      for (group = 0; group < BLOCK; group = group + DEEP * LANES)
        for (lane = 0; lane < LANES; lane = lane + 1) begin
          part = 0;
          some = 0;
          for (turn = 0; turn < DEEP; turn = turn + 1) begin
            at = group + turn * LANES + lane;
            if (at < BLOCK && block + at < MOST && block + at < count) begin
              product = x[block + at] * y[block + at];
              part = part + product;
              if (FIRST_SATURATES == 0) part = (part <<< (32 - FIRST)) >>> (32 - FIRST);
              else if (part > FIRST_MOST) part = FIRST_MOST;
              else if (part < -FIRST_MOST - 1) part = -FIRST_MOST - 1;
              some = 1;
            end
          end
          if (some) total = total + part;
          if (LAST_SATURATES == 0) total = (total <<< (32 - LAST)) >>> (32 - LAST);
          else if (total > LAST_MOST) total = LAST_MOST;
          else if (total < -LAST_MOST - 1) total = -LAST_MOST - 1;
        end
  end
  assign wrong = out_valid && acc != total[LAST-1:0];
endmodule
