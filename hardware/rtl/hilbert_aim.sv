// What a guide's code says of a lattice-aligned Hilbert decoder of the plane: the position that it aims at, and the part
// of the curve within WINDOW positions of it (WINDOW < 0: the whole curve). Codes of CODE bits, two's complement where
// SIGNED; 2^(CODE-ORDER) codes an edge. Combinational; nothing is multiplied.
// Definition: Decoder.aim and Decoder.nearest in intsim/hilbert/decoder.py.
module hilbert_aim #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer SIGNED = 1,
    parameter integer WINDOW = -1
) (
    input  wire [      CODE-1:0] guide,
    output wire [CODE+ORDER-1:0] aim,
    output wire [CODE+ORDER-1:0] low,
    output wire [CODE+ORDER-1:0] high
);
  localparam integer POS = CODE + ORDER;
  localparam integer END = ((1 << (2 * ORDER)) - 1) << (CODE - ORDER);  // the last position

  // guide * END is a difference of two shifted copies
  wire [CODE-1:0] plain = SIGNED != 0 ? guide ^ {1'b1, {(CODE - 1) {1'b0}}} : guide;
  wire [POS+CODE-1:0] scaled = ((POS + CODE)'(plain) << POS) - ((POS + CODE)'(plain) << (CODE - ORDER));
  wire [POS+CODE-1:0] raised = scaled + (POS + CODE)'(1 << (CODE - 1));
  assign aim = raised[POS+CODE-1:CODE];
  generate
    if (WINDOW < 0) begin : g_all
      assign low = 0;
      assign high = POS'(END);
    end else begin : g_part
      localparam [POS:0] WIDTH = WINDOW > END ? (POS + 1)'(END) : (POS + 1)'(WINDOW);
      wire [POS:0] centre = {1'b0, aim};
      wire [POS:0] reach = centre + WIDTH;
      assign low = centre < WIDTH ? POS'(0) : POS'(centre - WIDTH);
      assign high = reach > (POS + 1)'(END) ? POS'(END) : POS'(reach);
    end
  endgenerate
  wire unused = &{1'b0, raised[CODE-1:0]};
endmodule
