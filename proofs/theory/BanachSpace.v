(** Real Banach spaces, the metric of their norm, and the little vector algebra that the theorems need. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric.
Local Open Scope R_scope.
Set Implicit Arguments.

Record banach : Type := {
  point : Type;
  zero : point;
  add : point -> point -> point;
  neg : point -> point;
  scale : R -> point -> point;
  norm : point -> R;
  add_comm : forall x y, add x y = add y x;
  add_assoc : forall x y z, add x (add y z) = add (add x y) z;
  add_zero : forall x, add x zero = x;
  add_neg : forall x, add x (neg x) = zero;
  scale_one : forall x, scale 1 x = x;
  scale_scale : forall a b x, scale a (scale b x) = scale (a * b) x;
  scale_sum : forall a b x, scale (a + b) x = add (scale a x) (scale b x);
  scale_add : forall a x y, scale a (add x y) = add (scale a x) (scale a y);
  norm_add : forall x y, norm (add x y) <= norm x + norm y;
  norm_scale : forall a x, norm (scale a x) = Rabs a * norm x;
  norm_definite : forall x, norm x = 0 -> x = zero;
  norm_full : forall u : nat -> point,
    (forall eps, 0 < eps -> exists N, forall n m, (N <= n)%nat -> (N <= m)%nat ->
       norm (add (u n) (neg (u m))) < eps) ->
    exists l, forall eps, 0 < eps -> exists N, forall n, (N <= n)%nat -> norm (add (u n) (neg l)) < eps
}.

Definition sub (E : banach) (x y : point E) : point E := add E x (neg E y).

Section Algebra.
Variable E : banach.
Notation "x [+] y" := (add E x y) (at level 50, left associativity).
Notation "x [-] y" := (sub E x y) (at level 50, left associativity).
Notation "a [*] x" := (scale E a x) (at level 40).

Lemma add_cancel x y z : x [+] y = x [+] z -> y = z.
Proof.
  intros same. apply (f_equal (fun v => v [+] neg E x)) in same.
  rewrite (add_comm E x y), (add_comm E x z), <- !(add_assoc E), add_neg, !add_zero in same. exact same.
Qed.

Lemma scale_zero x : 0 [*] x = zero E.
Proof.
  apply (@add_cancel (0 [*] x)). rewrite <- scale_sum, add_zero. f_equal. ring.
Qed.

Lemma scale_minus_one x : (-1) [*] x = neg E x.
Proof.
  apply (@add_cancel x). rewrite add_neg, <- (scale_one E x) at 1.
  rewrite <- scale_sum, <- (scale_zero x). f_equal. ring.
Qed.

Lemma scale_neg a x : a [*] neg E x = neg E (a [*] x).
Proof. rewrite <- !scale_minus_one, !scale_scale. f_equal. ring. Qed.

Lemma neg_add x y : neg E (x [+] y) = neg E x [+] neg E y.
Proof. rewrite <- !scale_minus_one. apply scale_add. Qed.

Lemma neg_neg x : neg E (neg E x) = x.
Proof. rewrite <- !scale_minus_one, scale_scale. replace (-1 * -1) with 1 by ring. apply scale_one. Qed.

Lemma sub_self x : x [-] x = zero E.
Proof. apply add_neg. Qed.

Lemma add_swap x y z w : (x [+] y) [+] (z [+] w) = (x [+] z) [+] (y [+] w).
Proof. now rewrite <- !add_assoc, (add_assoc E y z w), (add_comm E y z), !add_assoc. Qed.

Lemma sub_add x y z w : (x [+] y) [-] (z [+] w) = (x [-] z) [+] (y [-] w).
Proof. unfold sub. rewrite neg_add. apply add_swap. Qed.

Lemma scale_sub a x y : a [*] x [-] a [*] y = a [*] (x [-] y).
Proof. unfold sub. now rewrite <- scale_neg, scale_add. Qed.

Lemma sub_split x y z : x [-] z = (x [-] y) [+] (y [-] z).
Proof.
  unfold sub. now rewrite <- add_assoc, (add_assoc E (neg E y)), (add_comm E (neg E y)), add_neg,
    (add_comm E (zero E)), add_zero.
Qed.

Lemma norm_neg x : norm E (neg E x) = norm E x.
Proof. rewrite <- scale_minus_one, norm_scale, Rabs_left; lra. Qed.

Lemma norm_zero : norm E (zero E) = 0.
Proof. rewrite <- (scale_zero (zero E)), norm_scale, Rabs_R0. ring. Qed.

Lemma norm_nonneg x : 0 <= norm E x.
Proof. pose proof (norm_add E x (neg E x)) as t. rewrite add_neg, norm_zero, norm_neg in t. lra. Qed.

Lemma norm_sub_sym x y : norm E (x [-] y) = norm E (y [-] x).
Proof. rewrite <- norm_neg. unfold sub. rewrite neg_add, neg_neg. f_equal. apply add_comm. Qed.

Lemma norm_sub_zero x y : norm E (x [-] y) = 0 <-> x = y.
Proof.
  split; [intros none | intros ->; rewrite sub_self; apply norm_zero].
  apply norm_definite in none. apply (@add_cancel (neg E y)).
  rewrite (add_comm E _ x), (add_comm E _ y), add_neg. exact none.
Qed.
End Algebra.

(** The distance [norm (x - y)]. *)
Definition metric (E : banach) : Metric_Space :=
  Build_Metric_Space (point E) (fun x y => norm E (sub E x y))
    (fun x y => Rle_ge _ _ (norm_nonneg E (sub E x y)))
    (norm_sub_sym E)
    (norm_sub_zero E)
    (fun x y z => eq_ind_r (fun v => norm E v <= _) (norm_add E (sub E x z) (sub E z y)) (sub_split E x z y)).

Lemma metric_complete (E : banach) : complete (metric E) (fun _ => True).
Proof. intros u _ cau. destruct (norm_full E u cau) as [l lim]. exists l. split; [exact I | exact lim]. Qed.
