// hilbert_decode.sv with registers beside its codes in registers of the same kind, from which the decoder without
// registers says what each register must hold. `wrong`: something else is held, or valid and ready differ.
// Whatever is stalled for however long, that follows from one cycle to the next, so an induction of one step shows it.
module other_pipeline #(
    parameter integer ORDER = 3,
    parameter integer CODE = 8,
    parameter integer STAGES = 4
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            in_valid,
    input  wire            out_ready,
    input  wire [CODE-1:0] x,
    input  wire [CODE-1:0] y,
    output wire            wrong
);
  localparam integer OUT = CODE + ORDER - 1;
  localparam integer RADIUS = 1 << (CODE - ORDER - 1);
  localparam integer RESULT = OUT + 2 * (CODE - ORDER) + 1;
  localparam [4:1] CUTS = STAGES == 1 ? 4'b1000 : STAGES == 2 ? 4'b1010 : STAGES == 3 ? 4'b1110 : 4'b1111;
  wire ready, valid;
  wire [RESULT-1:0] result;
  hilbert_decode #(.ORDER(ORDER), .CODE(CODE), .OUT(OUT), .RADIUS(RADIUS), .STAGES(STAGES)) gold (
      .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(ready), .x(x), .y(y), .out_valid(valid),
      .out_ready(out_ready), .place(result[RESULT-1-:OUT]), .squared(result[RESULT-OUT-1:1]), .confident(result[0]));

  wire valid0, valid1, valid2, valid3, valid4, ready0, ready1, ready2, ready3, ready4;
  wire [2*CODE-1:0] codes1, codes2, codes3, codes4;
  assign valid0 = in_valid;
  assign ready4 = out_ready;
  elastic #(.W(2 * CODE), .ON(32'(CUTS[1]))) r1 (clk, rst, valid0, ready0, {x, y}, valid1, ready1, codes1);
  elastic #(.W(2 * CODE), .ON(32'(CUTS[2]))) r2 (clk, rst, valid1, ready1, codes1, valid2, ready2, codes2);
  elastic #(.W(2 * CODE), .ON(32'(CUTS[3]))) r3 (clk, rst, valid2, ready2, codes2, valid3, ready3, codes3);
  elastic #(.W(2 * CODE), .ON(32'(CUTS[4]))) r4 (clk, rst, valid3, ready3, codes3, valid4, ready4, codes4);

  // what the decoder without registers has at each place, of the codes that are there
  wire [4*RESULT-1:0] results;
  wire [7:0] none;
  genvar k;
  generate
    for (k = 1; k <= 4; k = k + 1) begin : at
      hilbert_decode #(.ORDER(ORDER), .CODE(CODE), .OUT(OUT), .RADIUS(RADIUS), .STAGES(0)) plain (
          .clk(clk), .rst(rst), .in_valid(1'b1), .in_ready(none[2*k-2]), .out_valid(none[2*k-1]), .out_ready(1'b1),
          .x(k == 1 ? codes1[2*CODE-1:CODE] : k == 2 ? codes2[2*CODE-1:CODE] : k == 3 ? codes3[2*CODE-1:CODE] : codes4[2*CODE-1:CODE]),
          .y(k == 1 ? codes1[CODE-1:0] : k == 2 ? codes2[CODE-1:0] : k == 3 ? codes3[CODE-1:0] : codes4[CODE-1:0]),
          .place(results[RESULT*k-1-:OUT]), .squared(results[RESULT*k-OUT-1-:2*(CODE-ORDER)]),
          .confident(results[RESULT*(k-1)]));
    end
  endgenerate

  // wires inside, which are there once the hierarchy is flat
  localparam integer G = CODE - ORDER;
  localparam integer W1 = 2 * (G + CODE), W2 = 8 * ORDER + 4 * (2 * G + 2) + 4 * G, W3 = 4 * (3 * G + 2 * ORDER + 2) + 2 * G;
  (* hierconn *) wire [W1-1:0] \gold.cut1.out_data , \at[1].plain.cut1.in_data ;
  (* hierconn *) wire [W2-1:0] \gold.cut2.out_data , \at[2].plain.cut2.in_data ;
  (* hierconn *) wire [W3-1:0] \gold.cut3.out_data , \at[3].plain.cut3.in_data ;
  (* hierconn *) wire \gold.cut1.out_valid , \gold.cut2.out_valid , \gold.cut3.out_valid ;
  assign wrong = ready != ready0 || valid != valid4 || (valid && result != results[4*RESULT-1-:RESULT])
      || \gold.cut1.out_valid != valid1 || (valid1 && \gold.cut1.out_data != \at[1].plain.cut1.in_data )
      || \gold.cut2.out_valid != valid2 || (valid2 && \gold.cut2.out_data != \at[2].plain.cut2.in_data )
      || \gold.cut3.out_valid != valid3 || (valid3 && \gold.cut3.out_data != \at[3].plain.cut3.in_data );
endmodule
