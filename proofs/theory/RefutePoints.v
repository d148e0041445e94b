(** T9 [refute]: two points that are not brought closer refute contraction with any q < 1. *)
From Coq Require Import Reals Lra.
From Deqops Require Import Metric.
Local Open Scope R_scope.
Set Implicit Arguments.

Theorem refute_points (M : Metric_Space) (S : Base M -> Prop) (G : Base M -> Base M) (y z : Base M) :
  S y -> S z -> y <> z -> dist M y z <= dist M (G y) (G z) ->
  forall q, q < 1 -> ~ lipschitz M S q G.
Proof.
  intros Sy Sz distinct apart q below contracts.
  pose proof (contracts y z Sy Sz) as k.
  assert (0 < dist M y z).
  { apply Rnot_le_lt; intros H. apply distinct. exact (dist_zero M y z H). }
  nra.
Qed.
