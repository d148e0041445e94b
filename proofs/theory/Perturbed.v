(** T3 [perturbed]: a learned or rounded operator H that stays within delta of a contraction G. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard LocalPicard.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Perturbation.
Variable M : Metric_Space.
Notation X := (Base M).
Notation d := (dist M).
Variables (S : X -> Prop) (G H : X -> X) (q delta : R) (s : X).
Hypothesis q_range : 0 <= q < 1.
Hypothesis contracts : lipschitz M S q G.
Hypothesis inside : S s.
Hypothesis fixed : equilibrium M G s.
Hypothesis close : forall y, S y -> d (H y) (G y) <= delta.

Lemma perturbed_residual y : S y -> d y s <= (d (H y) y + delta) / (1 - q).
Proof.
  intros Sy.
  apply Rle_trans with (1 := residual_bound q_range contracts y Sy inside fixed).
  unfold Rdiv. apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra|].
  pose proof (triangle M (G y) (H y) y) as t. rewrite (symmetric M (G y) (H y)) in t.
  pose proof (close Sy). lra.
Qed.

Lemma perturbed_step e y : S y -> d y s <= e + delta / (1 - q) -> d (H y) s <= q * e + delta / (1 - q).
Proof.
  intros Sy near.
  pose proof (triangle M (H y) (G y) s) as t.
  pose proof (contracts Sy inside) as c. rewrite fixed in c.
  pose proof (close Sy) as k.
  replace (delta / (1 - q)) with (delta + q * (delta / (1 - q))) by (field; lra).
  assert (q * d y s <= q * (e + delta / (1 - q))) by (apply Rmult_le_compat_l; [lra | exact near]).
  lra.
Qed.

Theorem perturbed :
  (forall t, S t -> equilibrium M H t -> d t s <= delta / (1 - q))
  /\ (forall y, S y -> d y s <= (d (H y) y + delta) / (1 - q))
  /\ (forall y0, (forall n, S (iterate M H y0 n)) ->
        forall n, d (iterate M H y0 n) s <= q ^ n * d y0 s + delta / (1 - q)).
Proof.
  split; [|split; [exact perturbed_residual|]].
  - intros t St ft. pose proof (perturbed_residual St) as r.
    rewrite ft, dist_self, Rplus_0_l in r. exact r.
  - intros y0 stay n. induction n as [|n IH].
    + simpl. assert (0 <= delta / (1 - q)); [|lra].
      unfold Rdiv. apply Rmult_le_pos; [|left; apply Rinv_0_lt_compat; lra].
      apply Rle_trans with (2 := close inside). apply dist_nonneg.
    + simpl. rewrite Rmult_assoc. apply perturbed_step; [apply stay | exact IH].
Qed.
End Perturbation.

(** On a ball the iterates of H stay, and G has the equilibrium they approach. *)
Theorem perturbed_ball (M : Metric_Space) (G H : Base M -> Base M) (c : Base M) (r q delta : R) :
  0 <= r -> 0 <= q < 1 -> complete M (fun _ => True) -> lipschitz M (ball M c r) q G ->
  (forall y, ball M c r y -> dist M (H y) (G y) <= delta) ->
  dist M (G c) c + delta <= (1 - q) * r ->
  exists s, ball M c r s /\ equilibrium M G s /\ (forall t, ball M c r t -> equilibrium M G t -> t = s)
  /\ (forall y0 n, ball M c r y0 -> ball M c r (iterate M H y0 n)
        /\ dist M (iterate M H y0 n) s <= q ^ n * dist M y0 s + delta / (1 - q)).
Proof.
  intros radius range full contracts close room.
  pose proof (center_inside M c radius) as middle.
  assert (slack : 0 <= delta).
  { apply Rle_trans with (2 := close c middle). apply dist_nonneg. }
  assert (self : dist M (G c) c <= (1 - q) * r) by lra.
  destruct (local_picard radius range contracts self full) as [s [Bs [fixed [only _]]]].
  assert (stays : invariant M (ball M c r) H).
  { intros y By. pose proof (contracts y c By middle) as k. pose proof (close y By) as e.
    unfold ball in *. pose proof (triangle M (H y) (G y) c). pose proof (triangle M (G y) (G c) c).
    assert (q * dist M y c <= q * r) by (apply Rmult_le_compat_l; lra). lra. }
  exists s. split; [exact Bs|]. split; [exact fixed|]. split; [exact only|].
  intros y0 n B0.
  pose proof (fun k => @iterate_stays M (ball M c r) H y0 k stays B0) as stay.
  split; [exact (stay n)|].
  exact (proj2 (proj2 (@perturbed M (ball M c r) G H q delta s range contracts Bs fixed close)) y0 stay n).
Qed.
