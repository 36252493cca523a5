// The closest position to a point on that part of a segment of the curve which lies in low..high: `offset` is how far
// along the segment the point is, in codes from its first vertex, of which `start` is the position; an edge is 2^EDGE
// codes long. `beyond` is how far the point is past the closest position, along the segment. `present` says whether there
// is such a part; else the rest means nothing. Combinational.
// Definition: scan in intsim/hilbert/scan.py.
module hilbert_foot #(
    parameter integer CODE = 8,
    parameter integer POS = 11,
    parameter integer EDGE = 5
) (
    input  wire signed [CODE:0] offset,
    input  wire        [ POS-1:0] start,
    input  wire        [ POS-1:0] low,
    input  wire        [ POS-1:0] high,
    output wire                   present,
    output wire        [ POS-1:0] position,
    output wire signed [  CODE:0] beyond
);
  wire [POS-1:0] stop = start + POS'(1 << EDGE);
  assign present = low <= stop && high >= start;
  // ends of the part, from the first vertex
  wire [POS-1:0] from = low <= start ? POS'(0) : low - start;
  wire [POS-1:0] upto = high >= stop ? POS'(1 << EDGE) : high - start;
  wire signed [CODE:0] least = $signed((CODE + 1)'(from[EDGE:0]));
  wire signed [CODE:0] most = $signed((CODE + 1)'(upto[EDGE:0]));
  wire signed [CODE:0] along = offset < least ? least : offset > most ? most : offset;
  assign position = start + POS'(along);
  assign beyond = offset - along;
  wire unused = &{1'b0, from, upto};
endmodule
