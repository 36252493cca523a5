// Output of a lattice-aligned Hilbert decoder of the plane: OUT = CODE + ORDER bits are the position; fewer, at least
// 2 ORDER, are it rounded half up; more, it shifted left. Combinational.
// Definition: Decoder.lattice_aligned in intsim/hilbert/decoder.py.
module hilbert_round #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer OUT = 11
) (
    input  wire [CODE+ORDER-1:0] position,
    output wire [       OUT-1:0] place
);
  localparam integer POS = CODE + ORDER;
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
endmodule
