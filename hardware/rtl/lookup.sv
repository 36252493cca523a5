// An elementwise table: y = entry number x of FILE, which holds 2^IN entries of OUT bits, hexadecimal, one a line.
// Combinational. x is an unsigned number here: of a two's complement code its bit pattern.
module lookup #(
    parameter integer IN = 8,
    parameter integer OUT = 8,
    parameter FILE = "table.hex"
) (
    input  wire [ IN-1:0] x,
    output wire [OUT-1:0] y
);
  reg [OUT-1:0] entries[0:(1<<IN)-1];
  initial $readmemh(FILE, entries);
  assign y = entries[x];
endmodule
