// Lattice-aligned Hilbert decoder without a multiplier: codes of a point of the plane to its place along the curve of
// order ORDER. Codes have CODE bits, CODE > ORDER, two's complement where SIGNED; lattice lines are S = 2^(CODE-ORDER)
// codes apart. The closest curve point, of several the lowest place. OUT = CODE + ORDER bits are the position in codes;
// fewer, at least 2 ORDER, are it rounded half up; more, it shifted left. Combinational.
// Definition: Decoder.lattice_aligned in intsim/hilbert/decoder.py; docs/hilbert.md, "How it decodes".
module hilbert_decode #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer SIGNED = 1,
    parameter integer OUT = 11
) (
    input  wire [CODE-1:0] x,
    input  wire [CODE-1:0] y,
    output wire [ OUT-1:0] place
);
  localparam integer G = CODE - ORDER;  // log2 of the spacing S
  localparam integer POS = CODE + ORDER;  // bits of a position
  localparam integer SQ = 2 * G + 2;  // bits of a squared distance, up to 2 S^2
  localparam integer LINE0 = 1 << (G - 1);  // unsigned code of the first lattice line
  localparam integer END = ((1 << ORDER) - 1) << G;  // from there to the last one

  // Code to distance from the first line, onto the lattice.
  function automatic [CODE-1:0] onto;
    input [CODE-1:0] code;
    reg [CODE-1:0] plain, from;
    begin
      plain = SIGNED != 0 ? code ^ {1'b1, {(CODE - 1) {1'b0}}} : code;
      from = plain - CODE'(LINE0);
      onto = plain < CODE'(LINE0) ? CODE'(0) : from > CODE'(END) ? CODE'(END) : from;
    end
  endfunction

  // Index along the curve of a lattice vertex, quadrant by quadrant.
  function automatic [2*ORDER-1:0] vertex;
    input [ORDER-1:0] column;
    input [ORDER-1:0] row;
    reg [ORDER-1:0] u, v, w;
    reg right, upper;
    integer k;
    begin
      u = column;
      v = row;
      vertex = 0;
      for (k = ORDER - 1; k >= 0; k = k - 1) begin
        right = u[k];
        upper = v[k];
        vertex[2*k+:2] = {right, right ^ upper};
        if (!upper) begin
          // the lower quadrants hold the transposed curve, the right one about the other diagonal
          w = right ? ~v : v;
          v = right ? ~u : u;
          u = w;
        end
      end
    end
  endfunction

  // A square of at most S, by adding shifted copies.
  function automatic [SQ-1:0] square;
    input [G:0] value;
    integer k;
    begin
      square = 0;
      for (k = 0; k <= G; k = k + 1) if (value[k]) square = square + (SQ'(value) << k);
    end
  endfunction

  wire [CODE-1:0] px = onto(x);
  wire [CODE-1:0] py = onto(y);
  wire [ORDER-1:0] i = px[CODE-1:G];
  wire [ORDER-1:0] j = py[CODE-1:G];
  wire [G:0] a = {1'b0, px[G-1:0]};
  wire [G:0] b = {1'b0, py[G-1:0]};
  wire [G:0] a_left = (G + 1)'(1 << G) - a;
  wire [G:0] b_left = (G + 1)'(1 << G) - b;
  wire [SQ-1:0] aa = square(a);
  wire [SQ-1:0] bb = square(b);
  wire [SQ-1:0] aa_left = square(a_left);
  wire [SQ-1:0] bb_left = square(b_left);
  wire [ORDER-1:0] i1 = i + ORDER'(1);
  wire [ORDER-1:0] j1 = j + ORDER'(1);
  wire [2*ORDER-1:0] c00 = vertex(i, j);
  wire [2*ORDER-1:0] c10 = vertex(i1, j);
  wire [2*ORDER-1:0] c11 = vertex(i1, j1);
  wire [2*ORDER-1:0] c01 = vertex(i, j1);

  // The candidate of a side, {squared distance, position}: its foot where the curve runs along it, else its first corner.
  function automatic [SQ+POS-1:0] candidate;
    input [2*ORDER-1:0] start;
    input [2*ORDER-1:0] stop;
    input [SQ-1:0] across;
    input [SQ-1:0] along;
    input [G:0] offset;
    reg forward, backward;
    reg [POS-1:0] corner;
    begin
      forward = {1'b0, stop} == {1'b0, start} + (2 * ORDER + 1)'(1);
      backward = {1'b0, start} == {1'b0, stop} + (2 * ORDER + 1)'(1);
      corner = {start, {G{1'b0}}};
      candidate = forward ? {across, corner + POS'(offset)}
                : backward ? {across, corner - POS'(offset)}
                : {across + along, corner};
    end
  endfunction

  // Of two candidates the closer one, of equals the lower position: the smaller of both as one number.
  function automatic [SQ+POS-1:0] closer;
    input [SQ+POS-1:0] one;
    input [SQ+POS-1:0] other;
    closer = other < one ? other : one;
  endfunction

  wire [SQ+POS-1:0] bottom = candidate(c00, c10, bb, aa, a);
  wire [SQ+POS-1:0] side = candidate(c10, c11, aa_left, bb, b);
  wire [SQ+POS-1:0] top = candidate(c11, c01, bb_left, aa_left, a_left);
  wire [SQ+POS-1:0] start = candidate(c01, c00, aa, bb_left, b_left);
  wire [SQ+POS-1:0] best = closer(closer(bottom, side), closer(top, start));
  wire [POS-1:0] position = best[POS-1:0];
  generate
    if (OUT >= POS) begin : g_exact
      assign place = OUT'(position) << (OUT - POS);
    end else begin : g_round
      localparam integer DROP = POS - OUT;
      wire [POS:0] raised = {1'b0, position} + (POS + 1)'(1 << (DROP - 1));
      assign place = raised[OUT+DROP-1:DROP];
      wire unused_low = &{1'b0, raised[DROP-1:0], raised[POS]};
    end
  endgenerate
  wire unused = &{1'b0, best[SQ+POS-1:POS]};
endmodule
