// hilbert_scan.sv once more, without registers: one segment after the other; each is a box, onto which the point is moved
// axis by axis. Which vertex an index has is followed from the largest quadrant down.
module other_scan #(
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
    output reg  [ OUT-1:0] place,
    output reg  [2*CODE:0] squared,
    output wire            confident
);
  localparam integer S = 1 << (CODE - ORDER);
  localparam integer END = ((1 << (2 * ORDER)) - 1) * S;
  localparam integer POS = CODE + ORDER;
  localparam integer WIDE = 2 * POS + 3;
  localparam integer MIDDLE = SIGNED != 0 ? 0 : 1 << (CODE - 1);

  // {x, y} of a vertex, as codes counted from the first lattice line
  function automatic [2*CODE-1:0] at;
    input integer index;
    integer k, column, row, digit;
    reg swap, turn, right, upper;
    begin
      column = 0;
      row = 0;
      swap = 0;
      turn = 0;
      for (k = ORDER - 1; k >= 0; k = k - 1) begin
        digit = (index >> (2 * k)) % 4;
        right = (digit >= 2) ^ turn;
        upper = (digit == 1 || digit == 2) ^ turn;
        column = 2 * column + (swap ? upper : right);
        row = 2 * row + (swap ? right : upper);
        swap = swap ^ (digit == 0 || digit == 3);
        turn = turn ^ (digit == 3);
      end
      at = {CODE'(column * S), CODE'(row * S)};
    end
  endfunction

  wire signed [CODE:0] sx = $signed({SIGNED != 0 && x[CODE-1], x});
  wire signed [CODE:0] sy = $signed({SIGNED != 0 && y[CODE-1], y});
  wire signed [CODE:0] sg = $signed({SIGNED != 0 && guide[CODE-1], guide});
  wire signed [WIDE-1:0] px = WIDE'(sx) - WIDE'(MIDDLE) + WIDE'(((1 << ORDER) - 1) * S / 2);
  wire signed [WIDE-1:0] py = WIDE'(sy) - WIDE'(MIDDLE) + WIDE'(((1 << ORDER) - 1) * S / 2);
  wire signed [WIDE-1:0] aim = ((WIDE'(sg) - WIDE'(MIDDLE) + WIDE'(1 << (CODE - 1))) * WIDE'(END)
                                + WIDE'(1 << (CODE - 1))) >>> CODE;

  function automatic signed [WIDE-1:0] bounded;
    input signed [WIDE-1:0] value, one, other;
    reg signed [WIDE-1:0] least, most;
    begin
      least = one < other ? one : other;
      most = one < other ? other : one;
      bounded = value < least ? least : value > most ? most : value;
    end
  endfunction

  integer s;
  reg signed [WIDE-1:0] ax, ay, bx, by, dx, dy, from, upto, fx, fy, distance, cost, least, position, best, far;
  reg found;
  always @* begin
    found = 0;
    least = 0;
    best = 0;
    squared = 0;
    for (s = 0; s < (1 << (2 * ORDER)) - 1; s = s + 1) begin
      {ax, ay} = {WIDE'(at(s) >> CODE), WIDE'(CODE'(at(s)))};
      {bx, by} = {WIDE'(at(s + 1) >> CODE), WIDE'(CODE'(at(s + 1)))};
      {dx, dy} = {(bx - ax) >>> (CODE - ORDER), (by - ay) >>> (CODE - ORDER)};
      from = 0;
      upto = WIDE'(S);
      if (WINDOW >= 0) begin
        if (aim - WIDE'(WINDOW) > WIDE'(s * S)) from = aim - WIDE'(WINDOW) - WIDE'(s * S);
        if (aim + WIDE'(WINDOW) < WIDE'((s + 1) * S)) upto = aim + WIDE'(WINDOW) - WIDE'(s * S);
      end
      fx = bounded(px, dx == 0 ? ax : dx == 1 ? ax + from : ax - from, dx == 0 ? ax : dx == 1 ? ax + upto : ax - upto);
      fy = bounded(py, dy == 0 ? ay : dy == 1 ? ay + from : ay - from, dy == 0 ? ay : dy == 1 ? ay + upto : ay - upto);
      position = WIDE'(s * S) + (dx == 0 ? WIDE'(0) : dx == 1 ? fx - ax : ax - fx)
               + (dy == 0 ? WIDE'(0) : dy == 1 ? fy - ay : ay - fy);
      distance = (px - fx) * (px - fx) + (py - fy) * (py - fy);
      far = position - aim;
      cost = WEIGHT < 0 ? distance : distance + ((far * far) >>> WEIGHT);
      if (from <= upto && (!found || cost < least)) begin
        found = 1;
        least = cost;
        best = position;
        squared = distance[2*CODE:0];
      end
    end
    // rounded half up to OUT bits, or shifted
    place = OUT >= POS ? OUT'(best) << (OUT - POS) : OUT'((best + WIDE'((1 << POS) >> (OUT + 1))) >>> (POS - OUT));
  end
  assign confident = {31'd0, squared} <= (2 * CODE + 32)'(RADIUS) * (2 * CODE + 32)'(RADIUS);
  assign out_valid = in_valid;
  assign in_ready = out_ready;
endmodule
