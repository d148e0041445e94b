(** Real Hilbert spaces: Banach spaces whose norm comes from an inner product. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace WeightedSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Record hilbert : Type := {
  space :> banach;
  inner : point space -> point space -> R;
  inner_comm : forall x y, inner x y = inner y x;
  inner_add : forall x y z, inner (add space x y) z = inner x z + inner y z;
  inner_scale : forall a x y, inner (scale space a x) y = a * inner x y;
  inner_norm : forall x, norm space x * norm space x = inner x x
}.

Section Inner.
Variable H : hilbert.
Notation ip := (inner H).
Notation nm := (norm H).

Lemma inner_add_right x y z : ip x (add H y z) = ip x y + ip x z.
Proof. now rewrite inner_comm, inner_add, !(inner_comm H _ x). Qed.

Lemma inner_scale_right a x y : ip x (scale H a y) = a * ip x y.
Proof. now rewrite inner_comm, inner_scale, (inner_comm H y). Qed.

Lemma inner_sub x y z : ip (sub H x y) z = ip x z - ip y z.
Proof. unfold sub. rewrite inner_add, <- scale_minus_one, inner_scale. ring. Qed.

Lemma inner_sub_right x y z : ip x (sub H y z) = ip x y - ip x z.
Proof. now rewrite inner_comm, inner_sub, !(inner_comm H _ x). Qed.

Lemma cauchy_schwarz x y : ip x y <= nm x * nm y.
Proof.
  pose proof (norm_add H x y) as t. pose proof (norm_nonneg H x). pose proof (norm_nonneg H y).
  pose proof (norm_nonneg H (add H x y)) as p. pose proof (inner_norm H (add H x y)) as s.
  rewrite inner_add, !inner_add_right, (inner_comm H y x), <- !inner_norm in s. nra.
Qed.

(** The square of the norm of a combination. *)
Lemma norm_combination a b x y :
  nm (add H (scale H a x) (scale H b y)) * nm (add H (scale H a x) (scale H b y))
  = a * a * (nm x * nm x) + 2 * a * b * ip x y + b * b * (nm y * nm y).
Proof.
  rewrite !inner_norm, inner_add, !inner_add_right, !inner_scale, !inner_scale_right, (inner_comm H y x). ring.
Qed.

(** A bound of squares by a factor, negative ones included, is a bound by its root. *)
Lemma root_bound k x y : nm x * nm x <= k * (nm y * nm y) -> nm x <= sqrt k * nm y.
Proof.
  intros squares. pose proof (norm_nonneg H x). pose proof (norm_nonneg H y). pose proof (sqrt_pos k).
  destruct (Rle_lt_dec 0 k) as [k0|k0]; [pose proof (sqrt_sqrt k k0)|]; apply Rnot_lt_le; intros above;
    assert (0 <= sqrt k * nm y) by (apply Rmult_le_pos; lra).
  2: { assert (0 < nm x * nm x) by nra. assert (0 <= nm y * nm y) by nra. nra. }
  assert (sqrt k * nm y * (sqrt k * nm y) < nm x * nm x) by nra.
  replace (sqrt k * nm y * (sqrt k * nm y)) with (sqrt k * sqrt k * (nm y * nm y)) in * by ring. nra.
Qed.
End Inner.

(** The real line with the product of numbers. *)
Definition real_line : hilbert.
Proof.
  refine {| space := weighted_line (mkposreal 1 Rlt_0_1); inner x y := x * y |}; simpl; intros; try ring.
  rewrite !Rmult_1_l. symmetry. exact (Rsqr_abs x).
Defined.
