// hilbert_decode.sv once more, without registers or cells: of all segments of the curve the closest one, where a segment
// is as far as its row or column along its length, and as its nearer end past it. Which vertex an index has is followed
// from the largest quadrant down.
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
  localparam integer G = CODE - ORDER;
  localparam integer POS = CODE + ORDER;
  localparam integer SEGMENTS = (1 << (2 * ORDER)) - 1;
  localparam integer W = 2 * CODE + 1 + POS;

  // {column, row} of a vertex
  function automatic [2*ORDER-1:0] at;
    input integer index;
    integer k, digit;
    reg swap, turn, right, upper;
    begin
      at = 0;
      swap = 0;
      turn = 0;
      for (k = ORDER - 1; k >= 0; k = k - 1) begin
        digit = (index >> (2 * k)) % 4;
        right = (digit >= 2) ^ turn;
        upper = (digit == 1 || digit == 2) ^ turn;
        at[ORDER+k] = swap ? upper : right;
        at[k] = swap ? right : upper;
        swap = swap ^ (digit == 0 || digit == 3);
        turn = turn ^ (digit == 3);
      end
    end
  endfunction

  function automatic [2*CODE-1:0] square;
    input [CODE-1:0] code;
    input [CODE-1:0] line;
    reg [CODE-1:0] apart;
    begin
      apart = code < line ? line - code : code - line;
      square = (2 * CODE)'(apart) * (2 * CODE)'(apart);
    end
  endfunction

  wire [CODE-1:0] ux = x + (SIGNED != 0 ? CODE'(1 << (CODE - 1)) : CODE'(0));
  wire [CODE-1:0] uy = y + (SIGNED != 0 ? CODE'(1 << (CODE - 1)) : CODE'(0));
  wire [W*(SEGMENTS+1)-1:0] closest;
  wire [(2*CODE<<ORDER)-1:0] xx, yy;
  assign closest[W-1:0] = {W{1'b1}};
  genvar s;
  generate
    for (s = 0; s < (1 << ORDER); s = s + 1) begin : g_line
      assign xx[2*CODE*s+:2*CODE] = square(ux, CODE'((2 * s + 1) << (G - 1)));
      assign yy[2*CODE*s+:2*CODE] = square(uy, CODE'((2 * s + 1) << (G - 1)));
    end
    for (s = 0; s < SEGMENTS; s = s + 1) begin : g_segment
      localparam [2*ORDER-1:0] FROM = at(s);
      localparam [2*ORDER-1:0] TO = at(s + 1);
      localparam integer C = 32'(FROM[2*ORDER-1:ORDER]);
      localparam integer R = 32'(FROM[ORDER-1:0]);
      localparam integer C1 = 32'(TO[2*ORDER-1:ORDER]);
      localparam integer R1 = 32'(TO[ORDER-1:0]);
      localparam integer LEVEL = R == R1 ? 1 : 0;
      localparam [CODE-1:0] FIRST = CODE'((2 * (LEVEL != 0 ? C : R) + 1) << (G - 1));
      localparam [CODE-1:0] LAST = CODE'((2 * (LEVEL != 0 ? C1 : R1) + 1) << (G - 1));
      wire [CODE-1:0] code = LEVEL != 0 ? ux : uy;
      wire before = FIRST < LAST ? code <= FIRST : code >= FIRST;
      wire behind = FIRST < LAST ? code >= LAST : code <= LAST;
      wire [2*CODE-1:0] first = LEVEL != 0 ? xx[2*CODE*C+:2*CODE] : yy[2*CODE*R+:2*CODE];
      wire [2*CODE-1:0] last = LEVEL != 0 ? xx[2*CODE*C1+:2*CODE] : yy[2*CODE*R1+:2*CODE];
      wire [2*CODE-1:0] across = LEVEL != 0 ? yy[2*CODE*R+:2*CODE] : xx[2*CODE*C+:2*CODE];
      wire [CODE-1:0] along = FIRST < LAST ? code - FIRST : FIRST - code;
      wire [W-1:0] own = before ? {{1'b0, across} + {1'b0, first}, POS'(s << G)}
                       : behind ? {{1'b0, across} + {1'b0, last}, POS'((s + 1) << G)}
                       : {1'b0, across, POS'(s << G) + POS'(along)};
      assign closest[W*(s+1)+:W] = own < closest[W*s+:W] ? own : closest[W*s+:W];
    end
  endgenerate
  wire [W-1:0] best = closest[W*SEGMENTS+:W];
  wire [POS:0] half = OUT >= POS ? 0 : (POS + 1)'((1 << POS) >> (OUT + 1));
  wire [POS:0] raised = {1'b0, best[POS-1:0]} + half;
  assign place = OUT >= POS ? OUT'(raised) << (OUT - POS) : OUT'(raised >> (POS - OUT));
  assign squared = best[POS+:2*G];
  assign confident = 64'(best[W-1:POS]) <= 64'(RADIUS) * 64'(RADIUS);
  assign out_valid = in_valid;
  assign in_ready = out_ready;
endmodule
