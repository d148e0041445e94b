(** C[a, b] with the maximum norm is a Banach space. A point is a continuous function of the whole line that is constant
    to the left of a and to the right of b: one such function for each continuous function on [a, b]. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality Classical_Prop.
From Deqops Require Import Metric BanachSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Continuous.
Variables a b : R.
Hypothesis ordered : a <= b.

(** The point of [a, b] nearest to t. *)
Definition clamp (t : R) : R := Rmax a (Rmin b t).

Lemma clamp_inside t : a <= clamp t <= b.
Proof.
  unfold clamp. pose proof (Rmin_l b t). split; [apply Rmax_l | apply Rmax_lub; assumption].
Qed.

Lemma clamp_keeps t : a <= t <= b -> clamp t = t.
Proof. intros inside. unfold clamp. rewrite Rmin_right, Rmax_right; lra. Qed.

Lemma clamp_nonexpansive s t : Rabs (clamp s - clamp t) <= Rabs (s - t).
Proof.
  unfold clamp, Rmin. destruct (Rle_dec b s), (Rle_dec b t); unfold Rmax;
    repeat match goal with |- context [Rle_dec ?x ?y] => destruct (Rle_dec x y) end;
    unfold Rabs; repeat destruct Rcase_abs; lra.
Qed.

Definition curve : Type := { f : R -> R | continuity f /\ forall t, f t = f (clamp t) }.

Definition value (f : curve) : R -> R := proj1_sig f.

Lemma value_clamp f t : value f t = value f (clamp t).
Proof. exact (proj2 (proj2_sig f) t). Qed.

Lemma value_continuous f : continuity (value f).
Proof. exact (proj1 (proj2_sig f)). Qed.

Lemma curve_same (f g : curve) : (forall t, a <= t <= b -> value f t = value g t) -> f = g.
Proof.
  intros same. assert (everywhere : value f = value g).
  { apply functional_extensionality. intros t. rewrite value_clamp, (value_clamp g). apply same, clamp_inside. }
  destruct f as [f pf], g as [g pg]. unfold value in everywhere. simpl in everywhere. subst g.
  f_equal. apply proof_irrelevance.
Qed.

Definition curve_zero : curve.
Proof. exists (fun _ => 0). split; [apply continuity_const; intros ? ?|intros ?]; reflexivity. Defined.

Definition curve_add (f g : curve) : curve.
Proof.
  exists (fun t => value f t + value g t). split.
  - exact (continuity_plus _ _ (value_continuous f) (value_continuous g)).
  - intros t. now rewrite (value_clamp f t), (value_clamp g t).
Defined.

Definition curve_scale (x : R) (f : curve) : curve.
Proof.
  exists (fun t => x * value f t). split.
  - exact (continuity_scal _ x (value_continuous f)).
  - intros t. now rewrite (value_clamp f t).
Defined.

Definition curve_neg (f : curve) : curve.
Proof.
  exists (fun t => - value f t). split.
  - exact (continuity_opp _ (value_continuous f)).
  - intros t. now rewrite (value_clamp f t).
Defined.

Lemma sizes_bounded (f : curve) : bound (fun m => exists t, m = Rabs (value f t)).
Proof.
  destruct (continuity_ab_maj (fun t => Rabs (value f t)) a b ordered) as [top [most _]].
  - intros t _. exact (continuity_comp _ _ (value_continuous f) Rcontinuity_abs t).
  - exists (Rabs (value f top)). intros m [t ->]. rewrite value_clamp. apply most, clamp_inside.
Qed.

(** The largest absolute value. *)
Definition largest (f : curve) : R :=
  proj1_sig (completeness _ (sizes_bounded f) (ex_intro _ _ (ex_intro _ 0 eq_refl))).

Lemma largest_above f t : Rabs (value f t) <= largest f.
Proof. unfold largest. destruct completeness as [m [up least]]. simpl. apply up. now exists t. Qed.

Lemma largest_least f m : (forall t, a <= t <= b -> Rabs (value f t) <= m) -> largest f <= m.
Proof.
  intros under. unfold largest. destruct completeness as [s [up least]]. simpl. apply least.
  intros x [t ->]. rewrite value_clamp. apply under, clamp_inside.
Qed.

Lemma largest_scale x f : largest (curve_scale x f) <= Rabs x * largest f.
Proof.
  apply largest_least. intros t _. simpl. rewrite Rabs_mult.
  apply Rmult_le_compat_l; [apply Rabs_pos | apply largest_above].
Qed.

Lemma curve_full (u : nat -> curve) :
  (forall eps, 0 < eps -> exists N, forall n m, (N <= n)%nat -> (N <= m)%nat ->
     largest (curve_add (u n) (curve_neg (u m))) < eps) ->
  exists l, forall eps, 0 < eps -> exists N, forall n, (N <= n)%nat -> largest (curve_add (u n) (curve_neg l)) < eps.
Proof.
  intros cau.
  assert (pointwise : forall t, Cauchy_crit (fun n => value (u n) t)).
  { intros t eps pos. destruct (cau eps pos) as [N HN]. exists N. intros n m Hn Hm.
    exact (Rle_lt_trans _ _ _ (largest_above (curve_add (u n) (curve_neg (u m))) t) (HN n m Hn Hm)). }
  set (limit := fun t => proj1_sig (R_complete _ (pointwise t))).
  assert (lim : forall t, Un_cv (fun n => value (u n) t) (limit t))
    by (intros t; exact (proj2_sig (R_complete _ (pointwise t)))).
  assert (uniform : forall eps, 0 < eps -> exists N, forall n t, (N <= n)%nat -> Rabs (value (u n) t - limit t) <= eps).
  { intros eps pos. destruct (cau (eps / 2)) as [N HN]; [lra|]. exists N. intros n t Hn.
    destruct (lim t (eps / 2)) as [K HK]; [lra|].
    set (m := Nat.max N K). specialize (HK m ltac:(unfold m; lia)). specialize (HN n m Hn ltac:(unfold m; lia)).
    pose proof (largest_above (curve_add (u n) (curve_neg (u m))) t) as near. simpl in near.
    unfold R_dist in HK. replace (value (u n) t - limit t)
      with (value (u n) t + - value (u m) t + (value (u m) t - limit t)) by ring.
    apply Rle_trans with (1 := Rabs_triang _ _). lra. }
  assert (smooth : continuity limit).
  { intros t eps pos. destruct (uniform (eps / 4)) as [N HN]; [lra|].
    assert (c : continuity (value (u N))) by apply value_continuous.
    destruct (c t (eps / 4)) as [delta [delta0 near]]; [lra|].
    exists delta. split; [exact delta0|]. intros s close. specialize (near s close). simpl in *. unfold R_dist in *.
    pose proof (HN N s (le_n N)) as at_s. pose proof (HN N t (le_n N)) as at_t. rewrite Rabs_minus_sym in at_s.
    replace (limit s - limit t) with ((limit s - value (u N) s) + (value (u N) s - value (u N) t)
      + (value (u N) t - limit t)) by ring.
    apply Rle_lt_trans with (1 := Rabs_triang _ _).
    pose proof (Rabs_triang (limit s - value (u N) s) (value (u N) s - value (u N) t)). lra. }
  assert (still : forall t, limit t = limit (clamp t)).
  { intros t. apply (UL_sequence (fun n => value (u n) t)); [apply lim|].
    replace (fun n => value (u n) t) with (fun n => value (u n) (clamp t)); [apply lim|].
    apply functional_extensionality. intros n. symmetry. apply value_clamp. }
  exists (exist _ limit (conj smooth still)). intros eps pos.
  destruct (uniform (eps / 2)) as [N HN]; [lra|]. exists N. intros n Hn.
  apply Rle_lt_trans with (eps / 2); [|lra]. apply largest_least. intros t _. exact (HN n t Hn).
Qed.

Definition continuous_space : banach.
Proof.
  refine {| point := curve; zero := curve_zero; add := curve_add; neg := curve_neg; scale := curve_scale;
            norm := largest |};
    try (intros; apply curve_same; intros; simpl; ring).
  - intros f g. apply largest_least. intros t _. simpl. apply Rle_trans with (1 := Rabs_triang _ _).
    pose proof (largest_above f t). pose proof (largest_above g t). lra.
  - intros x f. apply Rle_antisym; [apply largest_scale|].
    destruct (Req_dec x 0) as [->|nonzero].
    + rewrite Rabs_R0, Rmult_0_l. apply Rle_trans with (2 := largest_above _ 0). apply Rabs_pos.
    + assert (0 < Rabs x) by (apply Rabs_pos_lt; exact nonzero).
      pose proof (largest_scale (/ x) (curve_scale x f)) as back.
      replace (curve_scale (/ x) (curve_scale x f)) with f in back
        by (apply curve_same; intros; simpl; field; exact nonzero).
      rewrite Rabs_inv in back. apply Rmult_le_compat_l with (r := Rabs x) in back; [|lra].
      rewrite <- Rmult_assoc, Rinv_r in back by lra. lra.
  - intros f none. apply curve_same. intros t _. simpl. pose proof (largest_above f t) as small.
    rewrite none in small. destruct (Req_dec (value f t) 0) as [yes|no]; [exact yes|].
    pose proof (Rabs_pos_lt _ no). lra.
  - exact curve_full.
Defined.

(** Its norm is the largest absolute value on [a, b], and every function that is continuous on the line is one of its
    points, on [a, b]. *)
Theorem continuous_norm :
  (forall (f : point continuous_space) t, a <= t <= b -> Rabs (value f t) <= norm continuous_space f)
  /\ (forall f : point continuous_space, exists t, a <= t <= b /\ norm continuous_space f = Rabs (value f t))
  /\ (forall g, continuity g -> exists f : point continuous_space, forall t, a <= t <= b -> value f t = g t).
Proof.
  split; [|split].
  - intros f t _. apply largest_above.
  - intros f. destruct (continuity_ab_maj (fun t => Rabs (value f t)) a b ordered) as [top [most inside]].
    + intros t _. exact (continuity_comp _ _ (value_continuous f) Rcontinuity_abs t).
    + exists top. split; [exact inside|]. apply Rle_antisym; [|apply largest_above].
      apply largest_least. exact most.
  - intros g smooth.
    assert (clamped : continuity (fun t => g (clamp t))).
    { intros t eps pos. destruct (smooth (clamp t) eps pos) as [delta [delta0 near]].
      exists delta. split; [exact delta0|]. intros s [_ close]. simpl in *. unfold R_dist in *.
      destruct (Req_dec (clamp t) (clamp s)) as [same|other].
      - rewrite same, Rminus_diag_eq by reflexivity. rewrite Rabs_R0. exact pos.
      - apply near. split; [split; [exact I | exact other]|].
        apply Rle_lt_trans with (1 := clamp_nonexpansive s t). exact close. }
    assert (still : forall t, g (clamp t) = g (clamp (clamp t)))
      by (intros t; now rewrite (clamp_keeps (clamp_inside t))).
    exists (exist (fun h => continuity h /\ forall t, h t = h (clamp t)) (fun t => g (clamp t)) (conj clamped still)).
    intros t inside. simpl. now rewrite clamp_keeps.
Qed.
End Continuous.
