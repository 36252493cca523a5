// Lattice-aligned Hilbert decoder of the plane with a guide: the point's foot on every segment at once, for short curves.
// Codes x, y, guide have CODE bits, CODE > ORDER, two's complement where SIGNED. The guide aims at a position; feet
// within WINDOW positions of it compete (WINDOW < 0: all), and the least squared distance wins, to which the square of
// how far the foot is from the position aimed at, shifted right by WEIGHT, is added (WEIGHT < 0: nothing); of equals the
// lowest position. place is that position in OUT bits (hilbert_round.sv), squared its squared distance in codes,
// confident whether that is at most RADIUS^2.
// STAGES = 0: combinational, and valid and ready pass through; 1..3: so many registers on the way (elastic.sv), a
// point a cycle. rst is synchronous. A square for each lattice line, and for each segment one if there is a window and
// one if there is a weight.
// Definition: Decoder.nearest in intsim/hilbert/decoder.py.
module hilbert_scan #(
    parameter integer ORDER = 2,
    parameter integer CODE = 8,
    parameter integer SIGNED = 1,
    parameter integer OUT = 10,
    parameter integer WINDOW = -1,
    parameter integer WEIGHT = -1,
    parameter integer RADIUS = 0,
    parameter integer STAGES = 0
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            in_valid,
    output wire            in_ready,
    input  wire [CODE-1:0] x,
    input  wire [CODE-1:0] y,
    input  wire [CODE-1:0] guide,
    output wire            out_valid,
    input  wire            out_ready,
    output wire [ OUT-1:0] place,
    output wire [2*CODE:0] squared,
    output wire            confident
);
  localparam integer G = CODE - ORDER;  // log2 of an edge
  localparam integer POS = CODE + ORDER;  // bits of a position
  localparam integer SIDE = 1 << ORDER;
  localparam integer SEGMENTS = SIDE * SIDE - 1;
  localparam integer SQ = 2 * CODE;  // bits of a square along one axis
  localparam integer D = SQ + 1;  // bits of a squared distance
  localparam integer COST = 2 * POS + 1;  // bits of what is compared
  localparam integer LINE0 = 1 << (G - 1);  // unsigned code of the first lattice line

  wire [POS-1:0] aim_in, low_in, high_in;
  hilbert_aim #(.ORDER(ORDER), .CODE(CODE), .SIGNED(SIGNED), .WINDOW(WINDOW)) aims (
      .guide(guide), .aim(aim_in), .low(low_in), .high(high_in));

  // How far the point is from each lattice line, and the squares of that.
  localparam [CODE-1:0] TOP = SIGNED != 0 ? {1'b1, {(CODE - 1) {1'b0}}} : 0;
  wire [SIDE*SQ-1:0] squares_x, squares_y;
  genvar k;
  generate
    for (k = 0; k < SIDE; k = k + 1) begin : g_line
      wire signed [CODE:0] dx = $signed({1'b0, x ^ TOP}) - (CODE + 1)'(LINE0 + (k << G));
      wire signed [CODE:0] dy = $signed({1'b0, y ^ TOP}) - (CODE + 1)'(LINE0 + (k << G));
      assign squares_x[SQ*k+:SQ] = SQ'(dx) * SQ'(dx);
      assign squares_y[SQ*k+:SQ] = SQ'(dy) * SQ'(dy);
    end
  endgenerate

  localparam integer LINES = 2 * SIDE * SQ + 2 * CODE + 3 * POS;
  wire [SIDE*SQ-1:0] lines_x, lines_y;
  wire [CODE-1:0] px, py;
  wire [POS-1:0] aim, low, high;
  wire valid1, ready1, valid2, ready2;
  elastic #(.W(LINES), .ON(STAGES >= 3 ? 1 : 0)) cut1 (
      .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready),
      .in_data({squares_x, squares_y, x ^ TOP, y ^ TOP, aim_in, low_in, high_in}),
      .out_valid(valid1), .out_ready(ready1), .out_data({lines_x, lines_y, px, py, aim, low, high}));

  // The foot of each segment, {outside the window, cost, position, squared distance}; one that is no segment is outside.
  localparam integer FOOT = 1 + COST + POS + D;
  wire [(SEGMENTS+1)*FOOT-1:0] feet_in, feet;
  assign feet_in[SEGMENTS*FOOT+:FOOT] = {FOOT{1'b1}};
  generate
    for (k = 0; k < SEGMENTS; k = k + 1) begin : g_segment
      wire [ORDER-1:0] column, row;
      wire vertical, backward, present;
      hilbert_segment #(.ORDER(ORDER)) segment (
          .index((2 * ORDER)'(k)), .column(column), .row(row), .vertical(vertical), .backward(backward));
      wire [ORDER-1:0] line = vertical ? row : column;
      wire signed [CODE:0] from = $signed({1'b0, vertical ? py : px}) - $signed((CODE + 1)'(line) << G)
                                - (CODE + 1)'(LINE0);
      wire signed [CODE:0] offset = backward ? -from : from;
      wire signed [CODE:0] beyond;
      wire [POS-1:0] position;
      hilbert_foot #(.CODE(CODE), .POS(POS), .EDGE(G)) foot (
          .offset(offset), .start(POS'(k << G)), .low(low), .high(high),
          .present(present), .position(position), .beyond(beyond));
      wire [SQ-1:0] across = vertical ? lines_x[SQ*column+:SQ] : lines_y[SQ*row+:SQ];
      wire [SQ-1:0] along;
      if (WINDOW < 0) begin : g_ends
        // past an end is from the lattice line of that end
        wire [ORDER-1:0] next = backward ? line - ORDER'(1) : line + ORDER'(1);
        wire [ORDER-1:0] passed = offset[CODE] ? line : next;
        assign along = beyond == 0 ? SQ'(0) : vertical ? lines_y[SQ*passed+:SQ] : lines_x[SQ*passed+:SQ];
      end else begin : g_parts
        assign along = SQ'(beyond) * SQ'(beyond);
      end
      wire [D-1:0] distance = {1'b0, across} + {1'b0, along};
      wire [COST-1:0] cost;
      if (WEIGHT < 0) begin : g_distance
        assign cost = COST'(distance);
      end else begin : g_weighted
        wire signed [POS:0] far = $signed({1'b0, position}) - $signed({1'b0, aim});
        wire [2*POS-1:0] far_squared = (2 * POS)'(far) * (2 * POS)'(far);
        assign cost = COST'(distance) + COST'(far_squared >> WEIGHT);
      end
      assign feet_in[FOOT*k+:FOOT] = {!present, cost, position, distance};
    end
  endgenerate

  elastic #(.W((SEGMENTS + 1) * FOOT), .ON(STAGES >= 2 ? 1 : 0)) cut2 (
      .clk(clk), .rst(rst), .in_valid(valid1), .in_ready(ready1), .in_data(feet_in),
      .out_valid(valid2), .out_ready(ready2), .out_data(feet));

  // The least foot as a number, by pairs: the cost first, then the position.
  function automatic [FOOT-1:0] least;
    input [(SEGMENTS+1)*FOOT-1:0] all;
    reg [(SEGMENTS+1)*FOOT-1:0] left;
    integer half, n;
    begin
      left = all;
      for (half = (SEGMENTS + 1) / 2; half > 0; half = half / 2)
        for (n = 0; n < half; n = n + 1)
          left[FOOT*n+:FOOT] = left[FOOT*(2*n+1)+:FOOT] < left[FOOT*2*n+:FOOT] ? left[FOOT*(2*n+1)+:FOOT]
                             : left[FOOT*2*n+:FOOT];
      least = left[FOOT-1:0];
    end
  endfunction
  wire [FOOT-1:0] best = least(feet);
  wire [OUT-1:0] rounded;
  hilbert_round #(.ORDER(ORDER), .CODE(CODE), .OUT(OUT)) round (.position(best[D+:POS]), .place(rounded));
  localparam [63:0] LIMIT = 64'(RADIUS) * 64'(RADIUS);
  elastic #(.W(OUT + D + 1), .ON(STAGES >= 1 ? 1 : 0)) cut3 (
      .clk(clk), .rst(rst), .in_valid(valid2), .in_ready(ready2),
      .in_data({rounded, best[D-1:0], 64'(best[D-1:0]) <= LIMIT}),
      .out_valid(out_valid), .out_ready(out_ready), .out_data({place, squared, confident}));
  wire unused = &{1'b0, best[FOOT-1:D+POS], aim};
endmodule
