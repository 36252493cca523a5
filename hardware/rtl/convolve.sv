// A convolution that streams: codes of an image in, accumulators out, through a line buffer and PE dot products (dot.sv)
// that share an activation. Image after image, each H x W x CIN codes, channels first, then columns, then rows (NHWC).
// out_acc is the sum of output channel out_channel before its requantizer, in the same order, OH x OW x COUT an image.
// Codes and sums are taken and given at rising edges with valid and ready of their side. rst is synchronous.
// The line buffer holds ROWS rows, of which KERNEL_H spread by DILATION_H are read and STRIDE_H more may arrive. A row
// of outputs begins when its last row of inputs is there, one of padding alone when the image's first row is: nothing
// comes of an image that doesn't. A sum takes CIN / GROUPS * KERNEL_H * KERNEL_W cycles, and those of dot.sv behind its
// last product; PE channels of a group are added at once, COUT / PE times an output position.
// Products arrive as ORDER says, outermost first: two bits an axis, 0 kernel row, 1 kernel column, 2 input channel.
// The multiplier sees code + SHIFT, and PAD where the window leaves the image; weights as it sees them are entries of
// WEIGHTS, BIAS_FILE has what dot.sv calls bias: a word for each cycle of all sums of a position, or for each PE channels,
// the first channel in the lowest bits. Parameters from A on are those of dot.sv.
// Definition: Conv in intsim/ops/conv.py, intsim/arithmetic/accumulate.py.
module convolve #(
    parameter integer CODE = 8,
    parameter integer CODE_SIGNED = 1,
    parameter integer SHIFT = 0,
    parameter integer PAD = 0,
    parameter integer H = 8,
    parameter integer W = 8,
    parameter integer CIN = 1,
    parameter integer COUT = 1,
    parameter integer OH = 6,
    parameter integer OW = 6,
    parameter integer KERNEL_H = 3,
    parameter integer KERNEL_W = 3,
    parameter integer STRIDE_H = 1,
    parameter integer STRIDE_W = 1,
    parameter integer DILATION_H = 1,
    parameter integer DILATION_W = 1,
    parameter integer PAD_TOP = 0,
    parameter integer PAD_LEFT = 0,
    parameter integer GROUPS = 1,
    parameter [5:0] ORDER = {2'd0, 2'd1, 2'd2},
    parameter integer PE = 1,
    parameter WEIGHTS = "weights.hex",
    parameter BIAS_FILE = "bias.hex",
    parameter integer A = 8,
    parameter integer A_SIGNED = 1,
    parameter integer B = 8,
    parameter integer B_SIGNED = 1,
    parameter integer STAGES = 1,
    parameter [32*STAGES-1:0] BITS = 32,
    parameter [32*STAGES-1:0] SUM = 0,
    parameter [32*STAGES-1:0] LANES = 1,
    parameter [STAGES-1:0] SATURATE = 0,
    parameter integer RESTART = 0,
    parameter integer BIAS = 32,
    parameter integer BIAS_MODE = 0,
    parameter integer WIDE = 64,
    parameter integer ACC = 32,
    parameter integer CHANNEL = COUT > 1 ? $clog2(COUT) : 1
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire                      in_valid,
    output wire                      in_ready,
    input  wire        [   CODE-1:0] in_code,
    output wire                      out_valid,
    input  wire                      out_ready,
    output wire        [CHANNEL-1:0] out_channel,
    output wire signed [    ACC-1:0] out_acc
);
  localparam integer REACH_H = (KERNEL_H - 1) * DILATION_H;
  localparam integer ROWS = REACH_H + 1 + STRIDE_H;
  localparam integer DEPTH = CIN / GROUPS * KERNEL_H * KERNEL_W;
  localparam integer FOLDS = COUT / PE;
  localparam integer WORDS = ROWS * W * CIN;
  // rows and columns, of padding too, are signed numbers
  localparam integer R = $clog2(OH * STRIDE_H + H + PAD_TOP + ROWS + 1) + 1;
  localparam integer C = $clog2(OW * STRIDE_W + W + PAD_LEFT + (KERNEL_W - 1) * DILATION_W + 1) + 1;
  localparam integer S = $clog2(2 * ROWS);
  localparam integer LA = WORDS > 1 ? $clog2(WORDS) : 1;
  localparam integer WA = FOLDS * DEPTH > 1 ? $clog2(FOLDS * DEPTH) : 1;
  localparam integer FA = FOLDS > 1 ? $clog2(FOLDS) : 1;
  localparam integer IA = CIN > 1 ? $clog2(CIN) : 1;
  localparam integer PA = PE > 1 ? $clog2(PE) : 1;
  localparam signed [R-1:0] TOP = R'(-PAD_TOP);
  localparam signed [C-1:0] LEFT = C'(-PAD_LEFT);
  localparam [S-1:0] FIRST = S'((ROWS - PAD_TOP % ROWS) % ROWS);

  // Writing: rows of this image, into slots in turn.
  reg [CODE-1:0] lines[0:WORDS-1];
  reg signed [R-1:0] rows;
  reg [LA-1:0] write;
  reg [LA-1:0] in_row;
  reg signed [R-1:0] base_row;  // of the window's first row, and the slot that it is in
  reg [S-1:0] base_slot;
  wire whole = rows == R'(H);
  assign in_ready = !whole && (rows == 0 || rows < base_row + R'(ROWS));
  wire put = in_valid && in_ready;
  wire row_end = in_row == LA'(W * CIN - 1);

  // Reading: kernel row, column and input channel, then channels, columns, rows.
  reg signed [C-1:0] base_column;
  reg [R-1:0] kernel_row;
  reg [C-1:0] kernel_column;
  reg [IA-1:0] channel, first_channel;
  reg [FA-1:0] fold;
  reg [WA-1:0] weight_at;
  reg finished;
  wire signed [R-1:0] row = base_row + $signed(kernel_row);
  wire signed [C-1:0] column = base_column + $signed(kernel_column);
  wire [S-1:0] beyond = base_slot + S'(kernel_row);
  wire [S-1:0] slot = beyond >= S'(ROWS) ? beyond - S'(ROWS) : beyond;
  wire outside = row < 0 || row >= R'(H) || column < 0 || column >= C'(W);
  wire [31:0] place = (32'(slot) * W + 32'(column)) * CIN + 32'(first_channel) + 32'(channel);
  wire [LA-1:0] read = outside ? LA'(0) : LA'(place);
  wire [2:0] at_end = {
    channel == IA'(CIN / GROUPS - 1),
    kernel_column == C'((KERNEL_W - 1) * DILATION_W),
    kernel_row == R'(REACH_H)
  };
  wire inner_end = at_end[ORDER[1:0]];
  wire middle_end = inner_end && at_end[ORDER[3:2]];
  wire sum_end = &at_end;
  wire [2:0] step;
  generate
    genvar i;
    for (i = 0; i < 3; i = i + 1) begin : g_step
      assign step[i] = ORDER[1:0] == 2'(i) ? 1'b1 : ORDER[3:2] == 2'(i) ? inner_end : middle_end;
    end
  endgenerate
  wire fold_end = fold == FA'(FOLDS - 1);
  wire column_end = base_column == LEFT + C'((OW - 1) * STRIDE_W);
  wire row_last = base_row == TOP + R'((OH - 1) * STRIDE_H);
  localparam integer GROUP_FOLDS = FOLDS / GROUPS;
  reg [FA-1:0] group_fold;
  wire group_end = group_fold == FA'(GROUP_FOLDS - 1);

  // What was read waits for the dot products; the last product of a sum also until the sums before have left.
  reg held, held_pad, held_last;
  reg [CODE-1:0] held_code;
  reg [FA-1:0] held_fold;
  reg [PE*B-1:0] held_weights;
  wire [PE-1:0] dot_ready, dot_valid;
  wire [PE*ACC-1:0] sums;
  reg [PE*ACC-1:0] left;
  reg [PA:0] count;
  reg [CHANNEL-1:0] out_at;
  wire offer = held && !(held_last && count != 0);
  wire taken = offer && dot_ready[0];
  wire advance = !held || taken;
  wire there = rows == R'(H) || (rows != 0 && rows > base_row + R'(REACH_H));
  wire issue = advance && there && !finished;

  reg [PE*B-1:0] weights[0:FOLDS*DEPTH-1];
  initial $readmemh(WEIGHTS, weights);
  always @(posedge clk) begin
    if (put) lines[write] <= in_code;
    if (issue) begin
      held_code <= lines[read];
      held_weights <= weights[weight_at];
    end
  end

  always @(posedge clk) begin
    if (rst || (finished && whole)) begin
      rows <= 0;
      write <= 0;
      in_row <= 0;
    end else if (put) begin
      write <= write == LA'(WORDS - 1) ? LA'(0) : write + LA'(1);
      in_row <= row_end ? LA'(0) : in_row + LA'(1);
      if (row_end) rows <= rows + R'(1);
    end
  end

  always @(posedge clk) begin
    if (rst || (finished && whole)) begin
      base_row <= TOP;
      base_slot <= FIRST;
      base_column <= LEFT;
      kernel_row <= 0;
      kernel_column <= 0;
      channel <= 0;
      first_channel <= 0;
      fold <= 0;
      group_fold <= 0;
      weight_at <= 0;
      finished <= 1'b0;
    end else if (issue) begin
      if (step[0]) kernel_row <= at_end[0] ? R'(0) : kernel_row + R'(DILATION_H);
      if (step[1]) kernel_column <= at_end[1] ? C'(0) : kernel_column + C'(DILATION_W);
      if (step[2]) channel <= at_end[2] ? IA'(0) : channel + IA'(1);
      weight_at <= sum_end && fold_end ? WA'(0) : weight_at + WA'(1);
      if (sum_end) begin
        fold <= fold_end ? FA'(0) : fold + FA'(1);
        group_fold <= group_end ? FA'(0) : group_fold + FA'(1);
        if (group_end) first_channel <= fold_end ? IA'(0) : first_channel + IA'(CIN / GROUPS);
        if (fold_end) begin
          base_column <= column_end ? LEFT : base_column + C'(STRIDE_W);
          if (column_end) begin
            base_row <= base_row + R'(STRIDE_H);
            base_slot <= base_slot >= S'(ROWS - STRIDE_H) ? base_slot - S'(ROWS - STRIDE_H) : base_slot + S'(STRIDE_H);
            finished <= row_last;
          end
        end
      end
    end
  end

  always @(posedge clk) begin
    if (rst) held <= 1'b0;
    else if (advance) held <= issue;
    if (issue) begin
      held_pad <= outside;
      held_last <= sum_end;
      held_fold <= fold;
    end
  end

  localparam integer M = (CODE > A ? CODE : A) + 2;
  wire signed [CODE:0] extended = {CODE_SIGNED != 0 && held_code[CODE-1], held_code};
  wire signed [M-1:0] moved = held_pad ? M'(PAD) : M'(extended) + M'(SHIFT);
  wire [A-1:0] a = moved[A-1:0];
  wire [PE*BIAS-1:0] bias;
  generate
    if (BIAS_MODE != 0) begin : g_bias
      reg [PE*BIAS-1:0] biases[0:FOLDS-1];
      initial $readmemh(BIAS_FILE, biases);
      assign bias = biases[held_fold];
    end else begin : g_no_bias
      assign bias = 0;
    end
    genvar g;
    for (g = 0; g < PE; g = g + 1) begin : g_dot
      dot #(
          .A(A),
          .A_SIGNED(A_SIGNED),
          .B(B),
          .B_SIGNED(B_SIGNED),
          .STAGES(STAGES),
          .BITS(BITS),
          .SUM(SUM),
          .LANES(LANES),
          .SATURATE(SATURATE),
          .RESTART(RESTART),
          .BIAS(BIAS),
          .BIAS_MODE(BIAS_MODE),
          .WIDE(WIDE),
          .ACC(ACC)
      ) products (
          .clk(clk),
          .rst(rst),
          .in_valid(offer),
          .in_ready(dot_ready[g]),
          .in_last(held_last),
          .a(a),
          .b(held_weights[B*g+:B]),
          .bias(bias[BIAS*g+:BIAS]),
          .out_valid(dot_valid[g]),
          .acc(sums[ACC*g+:ACC])
      );
    end
  endgenerate

  // Sums leave one at a time, in the order of their channels.
  reg [CHANNEL-1:0] next_channel;
  always @(posedge clk) begin
    if (rst) begin
      count <= 0;
      next_channel <= 0;
    end else if (dot_valid[0]) begin
      left <= sums;
      count <= (PA + 1)'(PE);
      out_at <= next_channel;
      next_channel <= next_channel == CHANNEL'(COUT - PE) ? CHANNEL'(0) : next_channel + CHANNEL'(PE);
    end else if (out_valid && out_ready) begin
      left <= left >> ACC;
      count <= count - (PA + 1)'(1);
      out_at <= out_at + CHANNEL'(1);
    end
  end
  assign out_valid = count != 0;
  assign out_channel = out_at;
  assign out_acc = left[ACC-1:0];
  wire unused = &{1'b0, held_fold, dot_ready, dot_valid, moved, place};
endmodule
