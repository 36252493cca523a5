// A register with valid and ready: a word is taken at a rising edge with in_valid and in_ready, and given at one with
// out_valid and out_ready; words keep their order, none is lost or given twice, and one goes through a cycle. in_ready
// follows out_ready in the same cycle. rst is synchronous and forgets what is held. With ON = 0 it is wires.
module elastic #(
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
  generate
    if (ON != 0) begin : g_register
      reg full;
      reg [W-1:0] held;
      assign in_ready = !full || out_ready;
      assign out_valid = full;
      assign out_data = held;
      always @(posedge clk) begin
        if (rst) full <= 1'b0;
        else if (in_ready) full <= in_valid;
        if (in_ready) held <= in_data;
      end
    end else begin : g_wires
      assign in_ready = out_ready;
      assign out_valid = in_valid;
      assign out_data = in_data;
      wire unused = &{1'b0, clk, rst};
    end
  endgenerate
endmodule
