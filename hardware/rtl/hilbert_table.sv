// Hilbert decoder as a table of all pairs of codes, as arXiv 2405.14024 has it: place = entry number x * 2^CODE + y of
// FILE, which holds 2^(2 CODE) entries of OUT bits, hexadecimal, one a line; x, y are bit patterns. The place comes a
// cycle after the codes, as from a block RAM.
module hilbert_table #(
    parameter integer CODE = 8,
    parameter integer OUT = 11,
    parameter FILE = "table.hex"
) (
    input  wire            clk,
    input  wire [CODE-1:0] x,
    input  wire [CODE-1:0] y,
    output reg  [ OUT-1:0] place
);
  reg [OUT-1:0] entries[0:(1<<(2*CODE))-1];
  initial $readmemh(FILE, entries);
  always @(posedge clk) place <= entries[{x, y}];
endmodule
