(** T1 [picard] (Banach-Caccioppoli): a contraction of a complete set has exactly one equilibrium there,
    Picard's iteration converges to it from every start, with a-priori, a-posteriori and residual bounds. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Contraction.
Variable M : Metric_Space.
Notation X := (Base M).
Notation d := (dist M).
Variables (S : X -> Prop) (G : X -> X) (q : R).
Hypothesis q_range : 0 <= q < 1.
Hypothesis stays : invariant M S G.
Hypothesis contracts : lipschitz M S q G.

(** Two points are never further apart than their residuals allow. *)
Lemma separation y z : S y -> S z -> d y z <= (d (G y) y + d (G z) z) / (1 - q).
Proof.
  intros Sy Sz.
  apply Rmult_le_reg_r with (1 - q); [lra|].
  unfold Rdiv; rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  pose proof (triangle M y (G y) z) as t1.
  pose proof (triangle M (G y) (G z) z) as t2.
  pose proof (contracts Sy Sz) as c.
  rewrite (symmetric M y (G y)) in t1. lra.
Qed.

(** The residual form: for any y of the set. *)
Theorem residual_bound y s : S y -> S s -> equilibrium M G s -> d y s <= d (G y) y / (1 - q).
Proof.
  intros Sy Ss fixed.
  pose proof (separation Sy Ss) as H.
  rewrite fixed, dist_self, Rplus_0_r in H. exact H.
Qed.

Lemma equilibrium_unique s t :
  S s -> S t -> equilibrium M G s -> equilibrium M G t -> s = t.
Proof.
  intros Ss St fs ft. apply (dist_zero M).
  pose proof (residual_bound Ss St ft) as H.
  rewrite fs, dist_self in H. unfold Rdiv in H. lra.
Qed.

Lemma powers_contract y z n : S y -> S z ->
  d (iterate M G y n) (iterate M G z n) <= q ^ n * d y z.
Proof.
  intros Sy Sz; induction n as [|n IH]; simpl; [lra|].
  pose proof (contracts (@iterate_stays M S G _ n stays Sy) (@iterate_stays M S G _ n stays Sz)).
  nra.
Qed.

Lemma residuals_shrink y n : S y ->
  d (G (iterate M G y n)) (iterate M G y n) <= q ^ n * d (G y) y.
Proof.
  intros Sy.
  replace (G (iterate M G y n)) with (iterate M G (G y) n).
  - apply powers_contract; auto.
  - pose proof (@iterate_shift M G y n 1) as H. simpl in H. rewrite <- H, Nat.add_comm. reflexivity.
Qed.

Lemma iterates_cauchy y : S y -> cauchy M (iterate M G y).
Proof.
  intros Sy eps pos.
  set (C := 2 * d (G y) y / (1 - q)).
  assert (C0 : 0 <= C).
  { unfold C, Rdiv. pose proof (dist_nonneg M (G y) y).
    apply Rmult_le_pos; [lra|]. left; apply Rinv_0_lt_compat; lra. }
  destruct (geometric q_range C0 pos) as [N HN].
  exists N; intros n m Hn Hm.
  pose proof (@iterate_stays M S G _ n stays Sy) as Sn.
  pose proof (@iterate_stays M S G _ m stays Sy) as Sm.
  pose proof (separation Sn Sm) as sep.
  pose proof (residuals_shrink n Sy) as rn. pose proof (residuals_shrink m Sy) as rm.
  assert (mono : forall k, (N <= k)%nat -> q ^ k <= q ^ N).
  { intros k Hk. replace k with ((k - N) + N)%nat by lia. rewrite pow_add.
    assert (0 <= q ^ N) by (apply pow_le; lra).
    assert (q ^ (k - N) <= 1).
    { rewrite <- (pow1 (k - N)). apply pow_incr; lra. }
    nra. }
  pose proof (mono n Hn) as mn. pose proof (mono m Hm) as mm.
  pose proof (dist_nonneg M (G y) y) as r0.
  specialize (HN N (le_n N)).
  apply Rle_lt_trans with (q ^ N * C); [|exact HN].
  apply Rle_trans with (1 := sep). unfold C, Rdiv.
  replace (q ^ N * (2 * d (G y) y * / (1 - q))) with ((q ^ N * (2 * d (G y) y)) * / (1 - q)) by ring.
  apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra|]. nra.
Qed.

Lemma limit_is_equilibrium y s : S y -> S s -> tends M (iterate M G y) s -> equilibrium M G s.
Proof.
  intros Sy Ss lim. apply (dist_zero M).
  apply Rnot_lt_le; intros apart.
  destruct (lim (d (G s) s / 2)) as [N HN]; [lra|].
  pose proof (HN N (le_n N)) as near. pose proof (HN (Datatypes.S N) (le_S _ _ (le_n N))) as next.
  simpl in next.
  pose proof (contracts Ss (@iterate_stays M S G _ N stays Sy)) as c.
  rewrite (symmetric M s) in c.
  pose proof (triangle M (G s) (G (iterate M G y N)) s) as t.
  pose proof (dist_nonneg M (iterate M G y N) s). nra.
Qed.

Hypothesis full : complete M S.

Theorem picard y0 : S y0 ->
  exists s, S s /\ equilibrium M G s
  /\ (forall t, S t -> equilibrium M G t -> t = s)
  /\ (forall z0, S z0 ->
        tends M (iterate M G z0) s
        /\ (forall n, d (iterate M G z0 n) s <= q ^ n / (1 - q) * d (iterate M G z0 1) z0)
        /\ (forall n, d (iterate M G z0 (n + 1)) s
              <= q / (1 - q) * d (iterate M G z0 (n + 1)) (iterate M G z0 n)))
  /\ (forall y, S y -> d y s <= d (G y) y / (1 - q)).
Proof.
  intros start.
  destruct (@full (iterate M G y0) (fun n => @iterate_stays M S G _ n stays start)
              (iterates_cauchy start)) as [s [Ss lim]].
  pose proof (limit_is_equilibrium start Ss lim) as fixed.
  assert (still : forall n, iterate M G s n = s).
  { induction n as [|n IH]; simpl; [reflexivity|]. rewrite IH. exact fixed. }
  exists s. split; [exact Ss|]. split; [exact fixed|]. split.
  { intros t St ft. exact (equilibrium_unique St Ss ft fixed). }
  split.
  2: { intros y Sy. exact (residual_bound Sy Ss fixed). }
  intros z0 Sz.
  assert (apriori : forall n, d (iterate M G z0 n) s <= q ^ n / (1 - q) * d (iterate M G z0 1) z0).
  { intros n. pose proof (powers_contract n Sz Ss) as H. rewrite still in H.
    pose proof (residual_bound Sz Ss fixed) as r. simpl.
    assert (0 <= q ^ n) by (apply pow_le; lra).
    apply Rle_trans with (1 := H).
    replace (q ^ n / (1 - q) * d (G z0) z0) with (q ^ n * (d (G z0) z0 / (1 - q))) by (unfold Rdiv; ring).
    apply Rmult_le_compat_l; assumption. }
  split; [|split].
  - intros eps pos.
    assert (C0 : 0 <= d (G z0) z0 / (1 - q)).
    { unfold Rdiv. pose proof (dist_nonneg M (G z0) z0).
      apply Rmult_le_pos; [lra|]. left; apply Rinv_0_lt_compat; lra. }
    destruct (geometric q_range C0 pos) as [N HN].
    exists N; intros n Hn. specialize (HN n Hn). pose proof (apriori n) as H. simpl in H.
    apply Rle_lt_trans with (1 := H).
    replace (q ^ n / (1 - q) * d (G z0) z0) with (q ^ n * (d (G z0) z0 / (1 - q))) by (unfold Rdiv; ring).
    exact HN.
  - exact apriori.
  - intros n. set (y := iterate M G z0 n).
    assert (step : iterate M G z0 (n + 1) = G y) by (rewrite Nat.add_comm; reflexivity).
    rewrite step.
    pose proof (@iterate_stays M S G _ n stays Sz) as Sy. fold y in Sy.
    pose proof (contracts Sy Ss) as c. rewrite fixed in c.
    pose proof (residual_bound Sy Ss fixed) as r.
    apply Rle_trans with (1 := c).
    replace (q / (1 - q) * d (G y) y) with (q * (d (G y) y / (1 - q))) by (unfold Rdiv; ring).
    apply Rmult_le_compat_l; [lra | exact r].
Qed.
End Contraction.
