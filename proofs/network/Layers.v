(** Layers phi (W z + c) with exact dyadic weights, and their compositions: what the theorems about networks speak of. *)
From Coq Require Import String Reals Lra Lia List ZArith.
From Deqops Require Import Metric RealLine Activations.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** numerator / denominator *)
Definition rational (numerator denominator : Z) : R := IZR numerator / IZR denominator.

(** mantissa / 2^exponent *)
Definition dyadic (exponent mantissa : Z) : R := IZR mantissa / IZR (2 ^ exponent).

Inductive activation : Type :=
| Identity
| Relu
| Tanh
| Sigmoid
| Leaky (numerator denominator : Z) (** slope numerator / denominator below 0 *)
| Clamp (lower upper denominator : Z). (** between lower / denominator and upper / denominator *)

Definition leaky (slope x : R) : R := if Rle_dec 0 x then x else slope * x.

Definition apply (phi : activation) : R -> R :=
  match phi with
  | Identity => fun x => x
  | Relu => relu
  | Tanh => tanh
  | Sigmoid => sigmoid
  | Leaky numerator denominator => leaky (rational numerator denominator)
  | Clamp lower upper denominator => fun x => Rmin (Rmax x (rational lower denominator)) (rational upper denominator)
  end.

(** sum over j of a_j x_j *)
Fixpoint dot (row x : list R) : R :=
  match row, x with a :: row', b :: x' => a * b + dot row' x' | _, _ => 0 end.

(** phi (A x + c), entry by entry *)
Fixpoint layer (phi : activation) (A : list (list R)) (c x : list R) : list R :=
  match A, c with
  | row :: A', b :: c' => apply phi (dot row x + b) :: layer phi A' c' x
  | _, _ => []
  end.

(** Row i holds the numbers mantissa / 2^exponent, with the exponent of row i. *)
Fixpoint dyadic_rows (exponents : list Z) (mantissas : list (list Z)) : list (list R) :=
  match exponents, mantissas with
  | e :: exponents', row :: mantissas' => map (dyadic e) row :: dyadic_rows exponents' mantissas'
  | _, _ => []
  end.

Fixpoint dyadics (exponents mantissas : list Z) : list R :=
  match exponents, mantissas with
  | e :: exponents', m :: mantissas' => dyadic e m :: dyadics exponents' mantissas'
  | _, _ => []
  end.

(** A row that is mostly 0: how many zeros stand before each mantissa; those after the last are left out. *)
Fixpoint sparse_row (gaps mantissas : list Z) : list Z :=
  match gaps, mantissas with
  | g :: gaps', m :: mantissas' => repeat 0%Z (Z.to_nat g) ++ m :: sparse_row gaps' mantissas'
  | _, _ => []
  end.

Definition sparse_rows (gaps mantissas : list (list Z)) : list (list Z) :=
  map (fun row => sparse_row (fst row) (snd row)) (combine gaps mantissas).

(** Wide mantissas in parts of 60 bits. *)
Definition joined_parts (high low : list (list Z)) : list (list Z) :=
  map (fun rows => map (fun parts => (fst parts * 2 ^ 60 + snd parts)%Z) (combine (fst rows) (snd rows))) (combine high low).

(** One layer without its shift: its activation, the exponents and the mantissas of its matrix. *)
Record stored : Type := {
  phi : activation;
  exponents : list Z;
  mantissas : list (list Z)
}.

Definition matrix (w : stored) : list (list R) := dyadic_rows (exponents w) (mantissas w).

(** The layers one after the other, the first of the list first; [shifts] holds the c of each. *)
Fixpoint network (layers : list stored) (shifts : list (list R)) (x : list R) : list R :=
  match layers, shifts with
  | w :: layers', c :: shifts' => network layers' shifts' (layer (phi w) (matrix w) c x)
  | _, _ => x
  end.

(** One shift for each layer, of the right length. *)
Definition fits (layers : list stored) (shifts : list (list R)) : Prop :=
  Forall2 (fun w c => length c = length (mantissas w)) layers shifts.

(** A claim with the fingerprints of the model and the inputs that its numbers were read from. They are labels: nothing
    here computes them. A constructor keeps claims with other labels from being convertible. *)
Inductive about (model inputs : string) (claim : Prop) : Prop :=
| read_from : claim -> about model inputs claim.

(** ** Lipschitz constants of the activations *)
Definition slope_numerator (a : activation) : Z := 1.
Definition slope_denominator (a : activation) : Z := match a with Sigmoid => 4 | _ => 1 end.

Arguments slope_numerator : simpl never.
Arguments slope_denominator : simpl never.

Definition proper (a : activation) : bool :=
  match a with
  | Leaky n d => ((0 <? d) && (Z.abs n <=? d))%Z%bool
  | _ => true
  end.

Definition slope (a : activation) : R := rational (slope_numerator a) (slope_denominator a).

Lemma slope_nonneg a : 0 <= slope a.
Proof. destruct a; cbv [slope rational slope_numerator slope_denominator]; lra. Qed.

Lemma rational_abs_le n d : (0 < d)%Z -> (Z.abs n <= d)%Z -> Rabs (rational n d) <= 1.
Proof.
  intros d0 le. apply IZR_lt in d0. apply IZR_le in le. rewrite abs_IZR in le. unfold rational, Rdiv.
  rewrite Rabs_mult, (Rabs_pos_eq (/ _)) by (left; now apply Rinv_0_lt_compat).
  apply Rmult_le_reg_r with (IZR d); [exact d0|]. rewrite Rmult_assoc, Rinv_l by lra. lra.
Qed.

Lemma leaky_lipschitz s x y : Rabs s <= 1 -> Rabs (leaky s x - leaky s y) <= Rabs (x - y).
Proof.
  intros le. assert (-1 <= s <= 1) by (revert le; unfold Rabs; destruct Rcase_abs; lra).
  unfold leaky. destruct (Rle_dec 0 x), (Rle_dec 0 y); unfold Rabs; repeat destruct Rcase_abs; nra.
Qed.

Lemma clamp_lipschitz l u x y : Rabs (Rmin (Rmax x l) u - Rmin (Rmax y l) u) <= Rabs (x - y).
Proof.
  unfold Rmin, Rmax. destruct (Rle_dec x l), (Rle_dec y l); repeat destruct Rle_dec; unfold Rabs;
    repeat destruct Rcase_abs; lra.
Qed.

Lemma apply_lipschitz a x y : proper a = true -> Rabs (apply a x - apply a y) <= slope a * Rabs (x - y).
Proof.
  destruct a as [| | | |n d|l u d]; cbv [slope rational slope_numerator slope_denominator]; simpl apply; intros ok.
  - lra.
  - pose proof (relu_lipschitz x y I I) as h. simpl in h. unfold R_dist in h. lra.
  - pose proof (tanh_lipschitz x y I I) as h. simpl in h. unfold R_dist in h. lra.
  - pose proof (sigmoid_lipschitz x y I I) as h. simpl in h. unfold R_dist in h. lra.
  - apply Bool.andb_true_iff in ok. destruct ok as [d0 le]. apply Z.ltb_lt in d0. apply Z.leb_le in le.
    pose proof (leaky_lipschitz (rational n d) x y (rational_abs_le n d0 le)). lra.
  - pose proof (clamp_lipschitz (rational l d) (rational u d) x y). lra.
Qed.

Lemma layer_length a A c x : length c = length A -> length (layer a A c x) = length A.
Proof. revert c. induction A as [|row A IH]; intros [|b c] len; simpl in *; try lia. rewrite IH; lia. Qed.

Lemma dyadic_rows_length es ms : length es = length ms -> length (dyadic_rows es ms) = length ms.
Proof. revert ms. induction es as [|e es IH]; intros [|m ms] len; simpl in *; try lia. rewrite IH; lia. Qed.

Lemma dyadic_positive e : (0 <= e)%Z -> 0 < IZR (2 ^ e).
Proof. intros e0. apply IZR_lt. now apply Z.pow_pos_nonneg. Qed.
