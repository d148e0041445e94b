(** T4 [damped], contraction case on the real line's scalar form: the damped map has constant |1-b| + |b| q
    and, for b <> 0, the equilibria of G. *)
From Coq Require Import Reals Lra.
From Deqops Require Import Metric RealLine.
Local Open Scope R_scope.

Definition damped (b : R) (G : R -> R) (y : R) : R := (1 - b) * y + b * G y.

Theorem damped_equilibria b G y : b <> 0 -> (damped b G y = y <-> G y = y).
Proof.
  intros nonzero. unfold damped. split; intros H.
  - apply Rmult_eq_reg_l with b; [lra | exact nonzero].
  - rewrite H. ring.
Qed.

Theorem damped_lipschitz b q G : lipschitz line (fun _ => True) q G ->
  lipschitz line (fun _ => True) (Rabs (1 - b) + Rabs b * q) (damped b G).
Proof.
  intros contracts y z _ _. pose proof (contracts y z I I) as k.
  simpl in *. unfold R_dist, damped in *.
  replace ((1 - b) * y + b * G y - ((1 - b) * z + b * G z))
    with ((1 - b) * (y - z) + b * (G y - G z)) by ring.
  apply Rle_trans with (1 := Rabs_triang _ _).
  rewrite !Rabs_mult.
  pose proof (Rabs_pos b). nra.
Qed.
