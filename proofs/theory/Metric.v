(** Metric vocabulary of the convergence theorems, over the standard library's [Metric_Space]. *)
From Coq Require Import Reals Lra Lia.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Vocabulary.
Variable M : Metric_Space.
Let X := Base M.
Let d := dist M.

(** [u] tends to [l]. *)
Definition tends (u : nat -> X) (l : X) : Prop :=
  forall eps, 0 < eps -> exists N, forall n, (N <= n)%nat -> d (u n) l < eps.

Definition cauchy (u : nat -> X) : Prop :=
  forall eps, 0 < eps ->
  exists N, forall n m, (N <= n)%nat -> (N <= m)%nat -> d (u n) (u m) < eps.

(** Every Cauchy sequence in [S] has a limit in [S]. *)
Definition complete (S : X -> Prop) : Prop :=
  forall u, (forall n, S (u n)) -> cauchy u -> exists l, S l /\ tends u l.

(** [q] is a Lipschitz constant of [G] on [S]. *)
Definition lipschitz (S : X -> Prop) (q : R) (G : X -> X) : Prop :=
  forall y z, S y -> S z -> d (G y) (G z) <= q * d y z.

Definition invariant (S : X -> Prop) (G : X -> X) : Prop := forall y, S y -> S (G y).

Definition equilibrium (G : X -> X) (y : X) : Prop := G y = y.

(** Picard's iteration from [y0]. *)
Fixpoint iterate (G : X -> X) (y0 : X) (n : nat) : X :=
  match n with O => y0 | S k => G (iterate G y0 k) end.

Definition ball (c : X) (r : R) (y : X) : Prop := d y c <= r.

Lemma dist_nonneg y z : 0 <= d y z.
Proof. apply Rge_le; apply dist_pos. Qed.

Lemma dist_self y : d y y = 0.
Proof. apply (proj2 (dist_refl M y y)); reflexivity. Qed.

Lemma dist_zero y z : d y z <= 0 -> y = z.
Proof.
  intros H. apply (proj1 (dist_refl M y z)).
  apply Rle_antisym; [exact H | apply dist_nonneg].
Qed.

Lemma triangle y z w : d y w <= d y z + d z w.
Proof. apply dist_tri. Qed.

Lemma symmetric y z : d y z = d z y.
Proof. apply dist_sym. Qed.

Lemma iterate_shift G y0 n k : iterate G y0 (n + k) = iterate G (iterate G y0 k) n.
Proof. induction n as [|n IH]; simpl; [reflexivity | now rewrite IH]. Qed.

Lemma iterate_stays S G y0 n : invariant S G -> S y0 -> S (iterate G y0 n).
Proof. intros inv start; induction n; simpl; auto. Qed.
End Vocabulary.

(** A geometric sequence becomes small. *)
Lemma geometric q C eps : 0 <= q < 1 -> 0 <= C -> 0 < eps ->
  exists N, forall n, (N <= n)%nat -> q ^ n * C < eps.
Proof.
  intros [q0 q1] C0 pos.
  assert (scale : 0 < C + 1) by lra.
  assert (small : Rabs q < 1) by (rewrite Rabs_right; lra).
  destruct (pow_lt_1_zero q small (eps / (C + 1))) as [N HN].
  { apply Rdiv_lt_0_compat; lra. }
  exists N; intros n big.
  specialize (HN n big).
  rewrite Rabs_right in HN by (apply Rle_ge, pow_le; exact q0).
  assert (0 <= q ^ n) by (apply pow_le; exact q0).
  assert (bound : q ^ n * (C + 1) < eps).
  { apply Rmult_lt_reg_r with (/ (C + 1)); [apply Rinv_0_lt_compat; lra|].
    rewrite Rmult_assoc, Rinv_r by lra. unfold Rdiv in HN. lra. }
  nra.
Qed.
