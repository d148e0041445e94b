(** Bounded linear maps between real Banach spaces: only what the theorems need. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace WeightedSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Definition linear (E F : banach) (A : point E -> point F) : Prop :=
  (forall x y, A (add E x y) = add F (A x) (A y)) /\ (forall t x, A (scale E t x) = scale F t (A x)).

(** [a] bounds the operator norm of [A]. *)
Definition bounded (E F : banach) (A : point E -> point F) (a : R) : Prop :=
  forall x, norm F (A x) <= a * norm E x.

Section Linear.
Variables (E F : banach) (A : point E -> point F).
Hypothesis A_linear : linear E F A.

Lemma linear_sub x y : A (sub E x y) = sub F (A x) (A y).
Proof.
  destruct A_linear as [plus times]. unfold sub. now rewrite plus, <- scale_minus_one, times, scale_minus_one.
Qed.

Lemma linear_zero : A (zero E) = zero F.
Proof. rewrite <- (sub_self E (zero E)), linear_sub. apply sub_self. Qed.
End Linear.

Section More.
Variable E : banach.

Lemma sub_zero x : sub E x (zero E) = x.
Proof.
  unfold sub. replace (neg E (zero E)) with (zero E); [apply add_zero|].
  rewrite <- scale_minus_one. pose proof (scale_zero E (zero E)) as z.
  rewrite <- z at 2. rewrite scale_scale, Rmult_0_r, z. reflexivity.
Qed.

Lemma sub_is_zero x y : sub E x y = zero E -> x = y.
Proof. intros none. apply (norm_sub_zero E x y). rewrite none. apply norm_zero. Qed.

Lemma add_sub_cancel x y : sub E (add E x y) x = y.
Proof. unfold sub. now rewrite (add_comm E x y), <- add_assoc, add_neg, add_zero. Qed.

Lemma add_sub_back x y : add E x (sub E y x) = y.
Proof. unfold sub. now rewrite (add_comm E y), add_assoc, add_neg, (add_comm E (zero E)), add_zero. Qed.

Lemma add_left_sub x y z : sub E (add E x y) (add E x z) = sub E y z.
Proof. now rewrite sub_add, sub_self, add_comm, add_zero. Qed.

Lemma sub_swap x y z w : sub E (sub E x y) (sub E z w) = sub E (sub E x z) (sub E y w).
Proof. unfold sub. rewrite !neg_add. apply add_swap. Qed.

Lemma sub_back x v : sub E (sub E x v) x = neg E v.
Proof. apply add_sub_cancel. Qed.

Lemma sub_keeps x v : sub E x v = x -> v = zero E.
Proof.
  intros same. apply norm_definite. rewrite <- norm_neg, <- (sub_back x v), same, sub_self. apply norm_zero.
Qed.

Lemma norm_triangle x y z : norm E (sub E x z) <= norm E (sub E x y) + norm E (sub E y z).
Proof. rewrite (sub_split E x y z). apply norm_add. Qed.

(** A number that is at most q times itself plus e is at most e / (1 - q). *)
Lemma absorb t e q : q < 1 -> t <= q * t + e -> t <= e / (1 - q).
Proof.
  intros below le. apply Rmult_le_reg_r with (1 - q); [lra|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra. lra.
Qed.
End More.

(** The real line as a Banach space. *)
Definition real_line : banach := weighted_line (mkposreal 1 Rlt_0_1).

Lemma real_norm (x : R) : norm real_line x = Rabs x.
Proof. simpl. ring. Qed.

Lemma real_distance (x y : R) : norm real_line (sub real_line x y) = Rabs (x - y).
Proof. apply real_norm. Qed.
