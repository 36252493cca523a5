// hilbert_decode.sv once more, without registers: all segments, by other_scan.sv.
module other_hilbert #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer SIGNED = 1,
    parameter integer OUT = 11,
    parameter integer RADIUS = 0,
    parameter integer STAGES = 0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire                      in_valid,
    output wire                      in_ready,
    input  wire [          CODE-1:0] x,
    input  wire [          CODE-1:0] y,
    output wire                      out_valid,
    input  wire                      out_ready,
    output wire [           OUT-1:0] place,
    output wire [2*(CODE-ORDER)-1:0] squared,
    output wire                      confident
);
  wire [2*CODE:0] distance;
  other_scan #(.ORDER(ORDER), .CODE(CODE), .SIGNED(SIGNED), .OUT(OUT), .RADIUS(RADIUS)) all (
      .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .x(x), .y(y), .guide({CODE{1'b0}}),
      .out_valid(out_valid), .out_ready(out_ready), .place(place), .squared(distance), .confident(confident));
  assign squared = distance[2*(CODE-ORDER)-1:0];
endmodule
