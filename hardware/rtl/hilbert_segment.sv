// Segment number `index` of the Hilbert curve of order ORDER in the plane: its first vertex, whether it runs along y, and
// whether towards 0. Combinational; there is no segment behind the last vertex.
// Definition: segment_table in intsim/hilbert/scan.py.
module hilbert_segment #(
    parameter integer ORDER = 3
) (
    input  wire [2*ORDER-1:0] index,
    output wire [  ORDER-1:0] column,
    output wire [  ORDER-1:0] row,
    output wire               vertical,
    output wire               backward
);
  // Vertex of an index, {row, column}, from the smallest quadrant up.
  function automatic [2*ORDER-1:0] vertex;
    input [2*ORDER-1:0] number;
    reg [ORDER-1:0] u, v, w;
    reg right, upper;
    integer k;
    begin
      u = 0;
      v = 0;
      for (k = 0; k < ORDER; k = k + 1) begin
        right = number[2*k+1];
        upper = number[2*k+1] ^ number[2*k];
        if (!upper) begin
          // the lower quadrants hold the transposed curve, the right one about the other diagonal
          w = right ? ~v : v;
          v = right ? ~u : u;
          u = w;
        end
        u[k] = right;
        v[k] = upper;
      end
      vertex = {v, u};
    end
  endfunction

  wire [2*ORDER-1:0] first = vertex(index);
  wire [2*ORDER-1:0] last = vertex(index + (2 * ORDER)'(1));
  assign {row, column} = first;
  assign vertical = last[ORDER-1:0] == column;
  assign backward = last < first;
endmodule
