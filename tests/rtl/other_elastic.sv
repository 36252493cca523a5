// elastic.sv once more, with its register: by what is taken and given at an edge.
module other_elastic #(
    parameter integer W = 8,
    parameter integer ON = 1
) (
    input  wire         clk,
    input  wire         rst,
    input  wire         in_valid,
    output wire         in_ready,
    input  wire [W-1:0] in_data,
    output wire         out_valid,
    input  wire         out_ready,
    output wire [W-1:0] out_data
);
  reg some;
  reg [W-1:0] word;
  wire given = some && out_ready;
  wire taken = in_valid && in_ready;
  wire stays = some && !given;
  assign in_ready = !stays;
  assign out_valid = some;
  assign out_data = word;
  always @(posedge clk) begin
    some <= !rst && (stays || taken);
    if (!stays) word <= in_data;
  end
endmodule
