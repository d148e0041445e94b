(** T2 [local_picard]: contraction on a closed ball whose centre has a small residual. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Local.
Variable M : Metric_Space.
Notation X := (Base M).
Notation d := (dist M).
Variables (G : X -> X) (c : X) (r q : R).
Hypothesis radius : 0 <= r.
Hypothesis q_range : 0 <= q < 1.
Hypothesis contracts : lipschitz M (ball M c r) q G.
Hypothesis self_map : d (G c) c <= (1 - q) * r.
Hypothesis full : complete M (fun _ => True).

Lemma center_inside : ball M c r c.
Proof. unfold ball. rewrite dist_self. exact radius. Qed.

Lemma ball_invariant : invariant M (ball M c r) G.
Proof.
  intros y inside. pose proof (contracts inside center_inside) as k.
  unfold ball in *. pose proof (triangle M (G y) (G c) c). nra.
Qed.

Lemma ball_complete : complete M (ball M c r).
Proof.
  intros u inside cau.
  destruct (@full u (fun _ => I) cau) as [l [_ lim]].
  exists l; split; [|exact lim].
  apply Rnot_lt_le; intros outside.
  destruct (lim (d l c - r)) as [N HN]; [unfold ball in *; lra|].
  specialize (HN N (le_n N)). pose proof (inside N) as b. unfold ball in *.
  pose proof (triangle M l (u N) c) as t. rewrite (symmetric M l (u N)) in t. lra.
Qed.

Theorem local_picard :
  exists s, ball M c r s /\ equilibrium M G s
  /\ (forall t, ball M c r t -> equilibrium M G t -> t = s)
  /\ (forall z0, ball M c r z0 ->
        tends M (iterate M G z0) s
        /\ (forall n, d (iterate M G z0 n) s <= q ^ n / (1 - q) * d (iterate M G z0 1) z0)
        /\ (forall n, d (iterate M G z0 (n + 1)) s
              <= q / (1 - q) * d (iterate M G z0 (n + 1)) (iterate M G z0 n)))
  /\ (forall y, ball M c r y -> d y s <= d (G y) y / (1 - q)).
Proof. exact (picard q_range ball_invariant contracts ball_complete c center_inside). Qed.
End Local.
