// Several products in one multiplier, their sums side by side in one register of WIDE bits, which wraps:
//   enable:  wide = (first ? 0 : wide) + packed(a) * packed(b)      at each rising edge of clk
// a are PIXELS activations of A bits, number 0 in the lowest bits, two's complement where A_SIGNED; b are CHANNELS weights
// of B bits likewise. packed() adds them up at the bit offsets PIXEL_AT and CHANNEL_AT (32 bits each, number 0 lowest, and
// 0); PACKED_A and PACKED_B bits hold what comes of it, or are WIDE. The product of channel c and pixel p lies at bit
// CHANNEL_AT[c] + PIXEL_AT[p] of wide, and so does its sum, of which FIELD bits are read, no more than up to the next sum.
// BORROW = 1 adds the bit just below, which repays what a negative sum below borrowed.
// fields is combinational: FIELD + 1 bits each, two's complement, number c*PIXELS + p of channel c and pixel p.
// Definition: intsim/arithmetic/packing.py.
module packed_mac #(
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
    parameter integer BORROW = 1
) (
    input  wire                                   clk,
    input  wire                                   first,
    input  wire                                   enable,
    input  wire [                   PIXELS*A-1:0] a,
    input  wire [                 CHANNELS*B-1:0] b,
    output wire [PIXELS*CHANNELS*(FIELD + 1)-1:0] fields
);
  reg signed [PACKED_A-1:0] packed_a;
  reg signed [PACKED_B-1:0] packed_b;
  integer i;
  always_comb begin
    packed_a = 0;
    for (i = 0; i < PIXELS; i = i + 1)
      packed_a = packed_a + (PACKED_A'($signed({A_SIGNED != 0 && a[A*i+A-1], a[A*i+:A]})) <<< PIXEL_AT[32*i+:32]);
    packed_b = 0;
    for (i = 0; i < CHANNELS; i = i + 1)
      packed_b = packed_b + (PACKED_B'($signed({B_SIGNED != 0 && b[B*i+B-1], b[B*i+:B]})) <<< CHANNEL_AT[32*i+:32]);
  end
  localparam integer P = PACKED_A + PACKED_B;
  wire signed [P-1:0] product = P'(packed_a) * P'(packed_b);

  reg signed [WIDE-1:0] wide;
  wire signed [WIDE-1:0] sum;
  overflow_add #(.ACC(WIDE), .IN(P)) add (.held(first ? WIDE'(0) : wide), .value(product), .sum(sum));
  always @(posedge clk) if (enable) wide <= sum;

  generate
    genvar c, p;
    for (c = 0; c < CHANNELS; c = c + 1) begin : g_channel
      for (p = 0; p < PIXELS; p = p + 1) begin : g_pixel
        localparam integer AT = CHANNEL_AT[32*c+:32] + PIXEL_AT[32*p+:32];
        wire signed [FIELD-1:0] field = wide[AT+:FIELD];
        wire below = BORROW != 0 && AT != 0 && wide[AT == 0 ? 0 : AT-1];
        assign fields[(FIELD+1)*(c*PIXELS+p)+:FIELD+1] = (FIELD + 1)'(field) + (FIELD + 1)'({1'b0, below});
      end
    end
  endgenerate
  wire unused = &{1'b0, wide};
endmodule
