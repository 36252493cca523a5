// Dot products of CHANNELS weights by PIXELS activations a cycle, all in one multiplier and one wide register
// (packed_mac.sv), which is read after GROUP products (0: at the end); STAGES further stages (chain.sv) of each output take
// what is read.
// A row is taken at a rising edge with in_valid and in_ready; in_last marks the last one. out_valid marks acc, one cycle.
// in_ready is low from the last row of a sum to its acc, so sums don't meet. rst is synchronous.
// A to BORROW are those of packed_mac.sv, STAGES to BIAS_MODE those of the chain. bias has BIAS bits a channel; it comes
// with the rows, the same with all rows of a sum. acc has ACC bits an output, number c*PIXELS + p of channel c and pixel p.
// VALUE is at least FIELD + 1 and every BITS.
// Definition: accumulate_packed in intsim/arithmetic/packing.py; docs/targets.md.
module packed_dot #(
    parameter integer A = 8,
    parameter integer A_SIGNED = 1,
    parameter integer B = 8,
    parameter integer B_SIGNED = 1,
    parameter integer PIXELS = 1,
    parameter integer CHANNELS = 2,
    parameter [32*PIXELS-1:0] PIXEL_AT = 0,
    parameter [32*CHANNELS-1:0] CHANNEL_AT = {32'd18, 32'd0},
    parameter integer PACKED_A = 8,
    parameter integer PACKED_B = 27,
    parameter integer WIDE = 48,
    parameter integer FIELD = 18,
    parameter integer BORROW = 1,
    parameter integer GROUP = 7,
    parameter integer STAGES = 1,
    parameter [32*STAGES-1:0] BITS = 32,
    parameter [32*STAGES-1:0] SUM = 0,
    parameter [32*STAGES-1:0] LANES = 1,
    parameter [STAGES-1:0] SATURATE = 0,
    parameter integer BIAS = 32,
    parameter integer BIAS_MODE = 0,
    parameter integer VALUE = 32,
    parameter integer ACC = 32
) (
    input  wire                           clk,
    input  wire                           rst,
    input  wire                           in_valid,
    output wire                           in_ready,
    input  wire                           in_last,
    input  wire [           PIXELS*A-1:0] a,
    input  wire [         CHANNELS*B-1:0] b,
    input  wire [      CHANNELS*BIAS-1:0] bias,
    output wire                           out_valid,
    output wire [PIXELS*CHANNELS*ACC-1:0] acc
);
  localparam integer OUTPUTS = PIXELS * CHANNELS;
  localparam integer GW = GROUP > 1 ? $clog2(GROUP) : 1;
  localparam [GW-1:0] FULL = GW'(GROUP - 1);
  reg [GW-1:0] count;  // products that the group has
  reg begun, read, read_last, busy;
  reg [CHANNELS*BIAS-1:0] bias_held;
  wire take = in_valid && in_ready;
  wire close = in_last || (GROUP != 0 && count == FULL);
  wire [CHANNELS*BIAS-1:0] bias_now = take ? bias : bias_held;
  assign in_ready = !busy;

  wire [OUTPUTS*(FIELD+1)-1:0] fields;
  packed_mac #(
      .A(A),
      .A_SIGNED(A_SIGNED),
      .B(B),
      .B_SIGNED(B_SIGNED),
      .PIXELS(PIXELS),
      .CHANNELS(CHANNELS),
      .PIXEL_AT(PIXEL_AT),
      .CHANNEL_AT(CHANNEL_AT),
      .PACKED_A(PACKED_A),
      .PACKED_B(PACKED_B),
      .WIDE(WIDE),
      .FIELD(FIELD),
      .BORROW(BORROW)
  ) multiply (.clk(clk), .first(!begun), .enable(take), .a(a), .b(b), .fields(fields));

  // all chains are in step; one before them would stall only in lanes that are handed on, which is at the end
  wire [OUTPUTS-1:0] valid, ready;
  generate
    genvar o;
    for (o = 0; o < OUTPUTS; o = o + 1) begin : g_output
      wire signed [FIELD:0] field = fields[(FIELD+1)*o+:FIELD+1];
      wire signed [VALUE-1:0] result;
      chain #(
          .STAGES(STAGES),
          .BITS(BITS),
          .SUM(SUM),
          .LANES(LANES),
          .SATURATE(SATURATE),
          .BIAS(BIAS),
          .BIAS_MODE(BIAS_MODE),
          .WIDE(VALUE)
      ) registers (
          .clk(clk),
          .rst(rst),
          .in_valid(read),
          .in_ready(ready[o]),
          .in_last(read_last),
          .in_value(VALUE'(field)),
          .bias(bias_now[BIAS*(o/PIXELS)+:BIAS]),
          .out_valid(valid[o]),
          .out_value(result)
      );
      assign acc[ACC*o+:ACC] = result[ACC-1:0];
      wire unused = &{1'b0, result};
    end
  endgenerate
  assign out_valid = valid[0];
  always @(posedge clk) begin
    bias_held <= bias_now;
    if (rst) begin
      count <= 0;
      begun <= 1'b0;
      read <= 1'b0;
      read_last <= 1'b0;
      busy <= 1'b0;
    end else begin
      read <= take && close;
      read_last <= in_last;
      if (take) begin
        begun <= !close;
        count <= close ? GW'(0) : count + GW'(1);
      end
      if (take && in_last) busy <= 1'b1;
      else if (out_valid) busy <= 1'b0;
    end
  end
  wire unused = &{1'b0, valid, ready};
endmodule
