(** T1 [picard], powers: if some power of G contracts a complete invariant set, G has exactly one equilibrium there
    and Picard's iteration of G itself converges to it. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Power.
Variable M : Metric_Space.
Notation X := (Base M).
Notation d := (dist M).

Lemma iterate_of_power (G : X -> X) m y k :
  iterate M (fun z => iterate M G z m) y k = iterate M G y (k * m).
Proof.
  induction k as [|k IH]; simpl; [reflexivity|].
  rewrite IH, <- iterate_shift. f_equal.
Qed.

Lemma power_commutes (G : X -> X) m y : iterate M G (G y) m = G (iterate M G y m).
Proof.
  change (G y) with (iterate M G y 1). rewrite <- iterate_shift, Nat.add_comm. reflexivity.
Qed.

(** The first residual controls how far m steps of an L-Lipschitz map lead. *)
Lemma steps_travel (S : X -> Prop) (G : X -> X) L y k : 0 <= L -> invariant M S G -> lipschitz M S L G -> S y ->
  d (iterate M G y (Datatypes.S k)) y <= sum_f_R0 (pow L) k * d (G y) y.
Proof.
  intros L0 stays lip Sy.
  assert (step : forall i, d (iterate M G (G y) i) (iterate M G y i) <= L ^ i * d (G y) y).
  { induction i as [|i IH]; simpl; [lra|].
    pose proof (lip _ _ (@iterate_stays M S G _ i stays (stays y Sy)) (@iterate_stays M S G _ i stays Sy)).
    nra. }
  induction k as [|k IH]; [simpl; lra|].
  rewrite tech5.
  pose proof (triangle M (iterate M G y (Datatypes.S (Datatypes.S k))) (iterate M G y (Datatypes.S k)) y) as t.
  pose proof (step (Datatypes.S k)) as s. rewrite power_commutes in s.
  change (G (iterate M G y (Datatypes.S k))) with (iterate M G y (Datatypes.S (Datatypes.S k))) in s.
  lra.
Qed.

(** Finitely many sequences that tend to one limit do so together. *)
Lemma tend_together (u : nat -> nat -> X) s m : (forall r, (r < m)%nat -> tends M (u r) s) ->
  forall eps, 0 < eps -> exists N, forall r n, (r < m)%nat -> (N <= n)%nat -> d (u r n) s < eps.
Proof.
  intros each eps pos. induction m as [|m IH].
  - exists 0%nat. intros; lia.
  - destruct IH as [N HN]; [intros r Hr; apply each; lia|].
    destruct (each m (Nat.lt_succ_diag_r m) eps pos) as [K HK].
    exists (Nat.max N K). intros r n Hr Hn.
    destruct (Nat.eq_dec r m) as [->|other]; [apply HK | apply HN]; lia.
Qed.

Variables (S : X -> Prop) (G : X -> X) (m : nat) (q_m : R).
Hypothesis some_power : (1 <= m)%nat.
Hypothesis q_range : 0 <= q_m < 1.
Hypothesis stays : invariant M S G.
Hypothesis power_contracts : lipschitz M S q_m (fun y => iterate M G y m).
Hypothesis full : complete M S.

Lemma power_stays : invariant M S (fun y => iterate M G y m).
Proof. intros y Sy. exact (@iterate_stays M S G y m stays Sy). Qed.

Lemma iterates_tend s :
  (forall z0, S z0 -> tends M (iterate M (fun y => iterate M G y m) z0) s) ->
  forall z0, S z0 -> tends M (iterate M G z0) s.
Proof.
  intros conv z0 Sz eps pos.
  destruct (@tend_together (fun r => iterate M (fun y => iterate M G y m) (iterate M G z0 r)) s m) with (eps := eps)
    as [N HN]; [|exact pos|].
  { intros r _. apply conv. exact (@iterate_stays M S G z0 r stays Sz). }
  exists (N * m)%nat. intros n Hn.
  pose proof (Nat.div_mod n m ltac:(lia)) as split_n.
  assert (rest : (n mod m < m)%nat) by (apply Nat.mod_upper_bound; lia).
  assert (many : (N <= n / m)%nat) by (apply Nat.div_le_lower_bound; lia).
  specialize (HN (n mod m)%nat (n / m)%nat rest many).
  rewrite iterate_of_power, <- iterate_shift in HN.
  replace (n / m * m + n mod m)%nat with n in HN by lia. exact HN.
Qed.

Theorem picard_powers y0 : S y0 ->
  exists s, S s /\ equilibrium M G s
  /\ (forall t, S t -> equilibrium M G t -> t = s)
  /\ (forall z0, S z0 -> tends M (iterate M G z0) s)
  /\ (forall y, S y -> d y s <= d (iterate M G y m) y / (1 - q_m))
  /\ (forall L y, 0 <= L -> lipschitz M S L G -> S y ->
        d y s <= sum_f_R0 (pow L) (m - 1) * d (G y) y / (1 - q_m)).
Proof.
  intros start.
  destruct (picard q_range power_stays power_contracts full y0 start) as [s [Ss [fixed [only [conv bound]]]]].
  assert (still : forall t, equilibrium M G t -> equilibrium M (fun y => iterate M G y m) t).
  { intros t ft. unfold equilibrium. clear - ft. induction m as [|k IH]; simpl; [reflexivity|].
    rewrite IH. exact ft. }
  exists s. split; [exact Ss|]. split.
  { apply (only (G s)); [exact (stays Ss)|]. unfold equilibrium in *. rewrite power_commutes. f_equal. exact fixed. }
  split; [intros t St ft; exact (only t St (still t ft))|].
  split; [exact (@iterates_tend s (fun z0 Sz => proj1 (conv z0 Sz)))|].
  split; [exact bound|].
  intros L y L0 lip Sy.
  pose proof (steps_travel y (m - 1) L0 stays lip Sy) as far.
  replace (Datatypes.S (m - 1)) with m in far by lia.
  apply Rle_trans with (1 := bound y Sy). unfold Rdiv.
  apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra | exact far].
Qed.
End Power.
