// Lattice-aligned Hilbert decoder of the plane with a guide: a segment a cycle, those of the window only, for long curves.
// Parameters and results are those of hilbert_scan.sv; the area hardly depends on ORDER: two squares, three with a weight.
// A point is taken at a rising edge with in_valid and in_ready; out_valid stays until an edge with out_ready. in_ready is
// low in between: for one cycle a segment that has a position within WINDOW of the one aimed at, and four more.
// rst is synchronous.
// Definition: Decoder.nearest in intsim/hilbert/decoder.py.
module hilbert_walk #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer SIGNED = 1,
    parameter integer OUT = 11,
    parameter integer WINDOW = -1,
    parameter integer WEIGHT = -1,
    parameter integer RADIUS = 0
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            in_valid,
    output wire            in_ready,
    input  wire [CODE-1:0] x,
    input  wire [CODE-1:0] y,
    input  wire [CODE-1:0] guide,
    output reg             out_valid,
    input  wire            out_ready,
    output wire [ OUT-1:0] place,
    output wire [2*CODE:0] squared,
    output wire            confident
);
  localparam integer G = CODE - ORDER;  // log2 of an edge
  localparam integer POS = CODE + ORDER;  // bits of a position
  localparam integer SQ = 2 * CODE;  // bits of a square along one axis
  localparam integer D = SQ + 1;  // bits of a squared distance
  localparam integer COST = 2 * POS + 1;  // bits of what is compared
  localparam integer LINE0 = 1 << (G - 1);  // unsigned code of the first lattice line
  localparam integer S = 2 * ORDER;  // bits of a segment's number
  localparam [S-1:0] LAST = S'((1 << S) - 2);

  // The first segment of the window is the one that ends where it begins, if there is one.
  wire [POS-1:0] aim_in, low_in, high_in;
  hilbert_aim #(.ORDER(ORDER), .CODE(CODE), .SIGNED(SIGNED), .WINDOW(WINDOW)) aims (
      .guide(guide), .aim(aim_in), .low(low_in), .high(high_in));
  wire [POS-1:0] below = low_in == 0 ? POS'(0) : low_in - POS'(1);
  wire [S-1:0] stop = high_in[POS-1:G] > LAST ? LAST : high_in[POS-1:G];

  reg busy, walking;
  reg [CODE-1:0] px, py;
  reg [POS-1:0] aim, low, high;
  reg [S-1:0] number, final_number;
  localparam [CODE-1:0] TOP = SIGNED != 0 ? {1'b1, {(CODE - 1) {1'b0}}} : 0;
  assign in_ready = !busy;
  wire finish = walking && number == final_number;

  // One segment: how far the point is along it and across, and where its foot is.
  wire [ORDER-1:0] column, row;
  wire vertical, backward, present;
  hilbert_segment #(.ORDER(ORDER)) segment (
      .index(number), .column(column), .row(row), .vertical(vertical), .backward(backward));
  wire signed [CODE:0] from_x = $signed({1'b0, px}) - $signed((CODE + 1)'(column) << G) - (CODE + 1)'(LINE0);
  wire signed [CODE:0] from_y = $signed({1'b0, py}) - $signed((CODE + 1)'(row) << G) - (CODE + 1)'(LINE0);
  wire signed [CODE:0] from = vertical ? from_y : from_x;
  wire signed [CODE:0] beyond_now;
  wire [POS-1:0] position_now;
  hilbert_foot #(.CODE(CODE), .POS(POS), .EDGE(G)) foot (
      .offset(backward ? -from : from), .start({number, {G{1'b0}}}), .low(low), .high(high),
      .present(present), .position(position_now), .beyond(beyond_now));

  reg there, ends;
  reg signed [CODE:0] across, beyond;
  reg [POS-1:0] position;

  // Its cost, a cycle later.
  wire [D-1:0] distance_now = {1'b0, SQ'(across) * SQ'(across)} + {1'b0, SQ'(beyond) * SQ'(beyond)};
  wire [COST-1:0] cost_now;
  generate
    if (WEIGHT < 0) begin : g_distance
      assign cost_now = COST'(distance_now);
    end else begin : g_weighted
      wire signed [POS:0] far = $signed({1'b0, position}) - $signed({1'b0, aim});
      wire [2*POS-1:0] far_squared = (2 * POS)'(far) * (2 * POS)'(far);
      assign cost_now = COST'(distance_now) + COST'(far_squared >> WEIGHT);
    end
  endgenerate
  reg costed, costed_ends, found;
  reg [COST-1:0] cost, best_cost;
  reg [D-1:0] distance, best_distance;
  reg [POS-1:0] costed_position, best_position;

  // Positions rise from segment to segment: a later one has to be strictly better.
  wire take = costed && (!found || cost < best_cost);
  always @(posedge clk) begin
    across <= vertical ? from_x : from_y;
    beyond <= beyond_now;
    position <= position_now;
    distance <= distance_now;
    cost <= cost_now;
    costed_position <= position;
    if (rst) begin
      busy <= 1'b0;
      walking <= 1'b0;
      there <= 1'b0;
      ends <= 1'b0;
      costed <= 1'b0;
      costed_ends <= 1'b0;
      found <= 1'b0;
      out_valid <= 1'b0;
    end else begin
      there <= walking && present;
      ends <= finish;
      costed <= there;
      costed_ends <= ends;
      if (in_valid && in_ready) begin
        busy <= 1'b1;
        walking <= 1'b1;
        found <= 1'b0;
      end else begin
        if (finish) walking <= 1'b0;
        if (out_valid && out_ready) busy <= 1'b0;
        if (take) found <= 1'b1;
      end
      out_valid <= costed_ends || (out_valid && !out_ready);
    end
    if (in_valid && in_ready) begin
      px <= x ^ TOP;
      py <= y ^ TOP;
      aim <= aim_in;
      low <= low_in;
      high <= high_in;
      number <= below[POS-1:G];
      final_number <= stop;
    end else number <= number + S'(1);
    if (take) begin
      best_cost <= cost;
      best_distance <= distance;
      best_position <= costed_position;
    end
  end

  hilbert_round #(.ORDER(ORDER), .CODE(CODE), .OUT(OUT)) round (.position(best_position), .place(place));
  localparam [63:0] LIMIT = 64'(RADIUS) * 64'(RADIUS);
  assign squared = best_distance;
  assign confident = 64'(best_distance) <= LIMIT;
  wire unused = &{1'b0, below, aim};
endmodule
