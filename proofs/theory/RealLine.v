(** The theorems are not vacuous: the real line is complete, and y/2 + 1 contracts it with equilibrium 2. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard RefutePoints.
Local Open Scope R_scope.

Definition line : Metric_Space := R_met.

Lemma line_complete : complete line (fun _ => True).
Proof.
  intros u _ cau.
  destruct (R_complete u) as [l lim].
  { intros eps pos. destruct (cau eps pos) as [N HN]. exists N. intros n m Hn Hm. exact (HN n m Hn Hm). }
  exists l; split; [exact I|].
  intros eps pos. destruct (lim eps pos) as [N HN]. exists N. intros n Hn. exact (HN n Hn).
Qed.

Definition halving (y : R) : R := y / 2 + 1.

Lemma halving_contracts : lipschitz line (fun _ => True) (1 / 2) halving.
Proof.
  intros y z _ _. unfold halving; simpl. unfold R_dist.
  replace (y / 2 + 1 - (z / 2 + 1)) with (1 / 2 * (y - z)) by field.
  rewrite Rabs_mult, (Rabs_right (1 / 2)) by lra. lra.
Qed.

Theorem halving_converges : forall y0, tends line (iterate line halving y0) 2.
Proof.
  intros y0.
  assert (range : 0 <= 1 / 2 < 1) by lra.
  assert (inv : invariant line (fun _ => True) halving) by (intros y _; exact I).
  destruct (picard range inv halving_contracts line_complete y0 I)
    as [s [_ [fixed [_ [conv _]]]]].
  assert (s = 2) as <- by (unfold equilibrium, halving in fixed; simpl in fixed; lra).
  exact (proj1 (conv y0 I)).
Qed.

(** A translation is refuted as a contraction, and indeed has no equilibrium. *)
Theorem translation_refuted : forall q, q < 1 -> ~ lipschitz line (fun _ => True) q (fun y => y + 1).
Proof.
  apply (@refute_points line (fun _ => True) (fun y => y + 1) 0 1 I I); [exact (Rlt_not_eq _ _ Rlt_0_1)|].
  simpl. unfold R_dist. right. f_equal. ring.
Qed.
