// packed_mac.sv once more: a product and a true sum for each field, put side by side only when they are read; a field that
// is repaid is half of what is read from one bit further down, ties up.
module other_packed_mac #(
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
  localparam integer FIELDS = PIXELS * CHANNELS;
  reg signed [WIDE-1:0] sums[0:FIELDS-1];
  reg signed [WIDE-1:0] wide;
  integer i;
  always @* begin
    wide = 0;
    for (i = 0; i < FIELDS; i = i + 1)
      wide = wide + (sums[i] <<< (CHANNEL_AT[32*(i/PIXELS)+:32] + PIXEL_AT[32*(i%PIXELS)+:32]));
  end
  generate
    genvar o;
    for (o = 0; o < FIELDS; o = o + 1) begin : g_field
      localparam integer AT = CHANNEL_AT[32*(o/PIXELS)+:32] + PIXEL_AT[32*(o%PIXELS)+:32];
      wire [A-1:0] u = a[A*(o%PIXELS)+:A];
      wire [B-1:0] v = b[B*(o/PIXELS)+:B];
      wire signed [A:0] x = A_SIGNED != 0 ? $signed({u[A-1], u}) : $signed({1'b0, u});
      wire signed [B:0] y = B_SIGNED != 0 ? $signed({v[B-1], v}) : $signed({1'b0, v});
      wire signed [A+B+1:0] product = x * y;
      always @(posedge clk) if (enable) sums[o] <= product + (first ? 0 : sums[o]);
      wire signed [WIDE:0] twice = {wide, 1'b0};
      wire signed [FIELD:0] lower = twice >>> AT;
      wire signed [FIELD+1:0] half = lower;
      wire signed [FIELD+1:0] repaid = (half + 1) >>> 1;
      wire signed [FIELD+1:0] plain = half >>> 1;
      assign fields[(FIELD+1)*o+:FIELD+1] = BORROW != 0 ? repaid : plain;
    end
  endgenerate
endmodule
