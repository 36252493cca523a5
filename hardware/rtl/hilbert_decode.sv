// Lattice-aligned Hilbert decoder without a multiplier: codes of a point of the plane to its place along the curve of
// order ORDER. Codes have CODE bits, CODE > ORDER, two's complement where SIGNED; lattice lines are S = 2^(CODE-ORDER)
// codes apart. The closest curve point, of several the lowest place. OUT = CODE + ORDER bits are the position in codes;
// fewer, at least 2 ORDER, are it rounded half up; more, it shifted left. squared is the squared distance in codes from
// the point to the curve point, confident whether that is at most RADIUS^2.
// STAGES = 0: combinational, and valid and ready pass through; 1..4: so many registers on the way (elastic.sv), a
// point a cycle. rst is synchronous.
// Definition: Decoder.lattice_aligned in intsim/hilbert/decoder.py; docs/hilbert.md, "How it decodes".
module hilbert_decode #(
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
  localparam integer G = CODE - ORDER;  // log2 of the spacing S
  localparam integer POS = CODE + ORDER;  // bits of a position
  localparam integer SQ = 2 * G + 2;  // bits of a candidate's squared distance, up to 2 S^2
  localparam integer D = 2 * G;  // bits of the squared distance, up to S^2 / 2
  localparam integer LINE0 = 1 << (G - 1);  // unsigned code of the first lattice line
  localparam integer END = ((1 << ORDER) - 1) << G;  // from there to the last one

  // Code to {how far off the lattice, distance from the first line}, the latter onto the lattice.
  function automatic [G+CODE-1:0] onto;
    input [CODE-1:0] code;
    reg [CODE-1:0] plain, from;
    begin
      plain = SIGNED != 0 ? code ^ {1'b1, {(CODE - 1) {1'b0}}} : code;
      from = plain - CODE'(LINE0);
      onto = plain < CODE'(LINE0) ? {G'(CODE'(LINE0) - plain), CODE'(0)}
           : from > CODE'(END) ? {G'(from - CODE'(END)), CODE'(END)}
           : {G'(0), from};
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

  localparam integer FRONT = 2 * (G + CODE);
  wire [FRONT-1:0] front;
  wire [G-1:0] off_x, off_y;
  wire [CODE-1:0] px, py;
  wire valid1, ready1, valid2, ready2, valid3, ready3;
  elastic #(.W(FRONT), .ON(STAGES >= 4 ? 1 : 0)) cut1 (
      .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .in_data({onto(x), onto(y)}),
      .out_valid(valid1), .out_ready(ready1), .out_data(front));
  assign {off_x, px, off_y, py} = front;

  wire [ORDER-1:0] i = px[CODE-1:G];
  wire [ORDER-1:0] j = py[CODE-1:G];
  wire [ORDER-1:0] i1 = i + ORDER'(1);
  wire [ORDER-1:0] j1 = j + ORDER'(1);
  wire [G:0] from_x = {1'b0, px[G-1:0]};
  wire [G:0] from_y = {1'b0, py[G-1:0]};
  wire [G:0] to_x = (G + 1)'(1 << G) - from_x;
  wire [G:0] to_y = (G + 1)'(1 << G) - from_y;
  // the curve point closest to a point off the lattice is on the border that it is off from
  wire [SQ-1:0] off = square({1'b0, off_x}) + square({1'b0, off_y});

  localparam integer SQUARES = 8 * ORDER + 4 * SQ + 2 * G + D;
  wire [2*ORDER-1:0] c00, c10, c11, c01;
  wire [SQ-1:0] aa, bb, aa_left, bb_left;
  wire [G-1:0] column, row;
  wire [D-1:0] off2, off3;
  elastic #(.W(SQUARES), .ON(STAGES >= 2 ? 1 : 0)) cut2 (
      .clk(clk), .rst(rst), .in_valid(valid1), .in_ready(ready1),
      .in_data({vertex(i, j), vertex(i1, j), vertex(i1, j1), vertex(i, j1), square(from_x), square(from_y),
                square(to_x), square(to_y), from_x[G-1:0], from_y[G-1:0], off[D-1:0]}),
      .out_valid(valid2), .out_ready(ready2),
      .out_data({c00, c10, c11, c01, aa, bb, aa_left, bb_left, column, row, off2}));
  wire [G:0] a = {1'b0, column};
  wire [G:0] b = {1'b0, row};
  wire [G:0] a_left = (G + 1)'(1 << G) - a;
  wire [G:0] b_left = (G + 1)'(1 << G) - b;

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

  localparam integer C = SQ + POS;
  wire [C-1:0] bottom, side, top, start;
  elastic #(.W(4 * C + D), .ON(STAGES >= 3 ? 1 : 0)) cut3 (
      .clk(clk), .rst(rst), .in_valid(valid2), .in_ready(ready2),
      .in_data({candidate(c00, c10, bb, aa, a), candidate(c10, c11, aa_left, bb, b),
                candidate(c11, c01, bb_left, aa_left, a_left), candidate(c01, c00, aa, bb_left, b_left), off2}),
      .out_valid(valid3), .out_ready(ready3), .out_data({bottom, side, top, start, off3}));

  wire [C-1:0] best = closer(closer(bottom, side), closer(top, start));
  wire [D-1:0] distance = best[POS+:D] + off3;
  wire [OUT-1:0] rounded;
  hilbert_round #(.ORDER(ORDER), .CODE(CODE), .OUT(OUT)) round (.position(best[POS-1:0]), .place(rounded));
  localparam [63:0] LIMIT = 64'(RADIUS) * 64'(RADIUS);
  elastic #(.W(OUT + D + 1), .ON(STAGES >= 1 ? 1 : 0)) cut4 (
      .clk(clk), .rst(rst), .in_valid(valid3), .in_ready(ready3),
      .in_data({rounded, distance, 64'(distance) <= LIMIT}),
      .out_valid(out_valid), .out_ready(out_ready), .out_data({place, squared, confident}));
  wire unused = &{1'b0, best[C-1:POS+D], off[SQ-1:D]};
endmodule
